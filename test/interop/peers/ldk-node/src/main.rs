//! One LDK node for the interop lane. Requests come as lines of JSON on standard input, `{"id", "method", …}`; answers
//! `{"id", "result"}` or `{"id", "error"}` and events `{"event", …}` go out as lines on standard output. Bytes are hex,
//! txids in display order, short channel ids text. Closing standard input stops the node.
//!
//! Started as `ldk-node-peer CONFIG`, where CONFIG is JSON: dataDir, port, alias, anchors, and the bitcoind's host,
//! rpcPort, user, password.

use ldk_node::bitcoin::hashes::{sha256, Hash};
use ldk_node::bitcoin::secp256k1::PublicKey;
use ldk_node::bitcoin::Network;
use ldk_node::config::{AnchorChannelsConfig, Config};
use ldk_node::lightning::ln::channelmanager::PaymentId;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::lightning::routing::gossip::{ChannelInfo, ChannelUpdateInfo, NodeAlias, NodeAnnouncementInfo, NodeId};
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description, Sha256};
use ldk_node::lightning_types::payment::{PaymentHash, PaymentPreimage};
use ldk_node::logger::{LogLevel, LogRecord, LogWriter};
use ldk_node::{Builder, ChannelDetails, Event, LightningBalance, Node, PendingSweepBalance};
use serde_json::{json, Value};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Answer = Result<Value, String>;

/// How often peers that are wanted and not connected are dialled.
const REDIAL: Duration = Duration::from_secs(1);

fn say(line: &Value) {
	let mut out = std::io::stdout().lock();
	// A reader that is gone closes standard input too, which ends the process.
	let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The log, in a file; what a failed onion said is an event, because LDK's own does not carry it.
struct Log(Mutex<File>);

impl LogWriter for Log {
	fn log<'a>(&self, record: LogRecord<'a>) {
		let text = record.args.to_string();
		if let Some(at) = text.find("Onion Error[from ") {
			say(&json!({ "event": "onion_error", "text": text[at..] }));
		}
		if record.level >= LogLevel::Debug {
			let mut file = self.0.lock().unwrap();
			let _ = writeln!(file, "{} {}:{} {text}", record.level, record.module_path, record.line);
		}
	}
}

struct Peer {
	node: Node,
	wanted: Mutex<HashMap<PublicKey, SocketAddress>>,
}

fn main() {
	let config: Value = serde_json::from_str(&std::env::args().nth(1).expect("CONFIG")).expect("CONFIG is JSON");
	let text = |name: &str| config[name].as_str().expect(name).to_string();
	let port = |name: &str| u16::try_from(config[name].as_u64().expect(name)).expect(name);

	let listening = SocketAddress::TcpIpV4 { addr: [127, 0, 0, 1], port: port("port") };
	let mut alias = [0u8; 32];
	alias[..text("alias").len()].copy_from_slice(text("alias").as_bytes());
	let mut builder = Builder::from_config(Config {
		storage_dir_path: text("dataDir"),
		network: Network::Regtest,
		listening_addresses: Some(vec![listening]),
		node_alias: Some(NodeAlias(alias)),
		anchor_channels_config: config["anchors"].as_bool().expect("anchors").then(AnchorChannelsConfig::default),
		..Config::default()
	});
	builder.set_chain_source_bitcoind_rpc(text("host"), port("rpcPort"), text("user"), text("password"));
	builder.set_gossip_source_p2p();
	std::fs::create_dir_all(text("dataDir")).expect("the data directory");
	let log = OpenOptions::new().create(true).append(true).open(format!("{}/ldk.log", text("dataDir")));
	builder.set_custom_logger(Arc::new(Log(Mutex::new(log.expect("the log")))));
	let node = builder.build().expect("a node");
	node.start().expect("the node starts");
	say(&json!({ "event": "ready", "nodeId": node.node_id().to_string() }));

	let peer = Arc::new(Peer { node, wanted: Mutex::default() });
	let events = Arc::clone(&peer);
	std::thread::spawn(move || loop {
		say(&event(&events.node.wait_next_event()));
		events.node.event_handled().expect("the event is marked");
	});
	let dials = Arc::clone(&peer);
	std::thread::spawn(move || loop {
		std::thread::sleep(REDIAL);
		let wanted = dials.wanted.lock().unwrap().clone();
		for (node_id, address) in wanted {
			if !connected(&dials.node).contains(&node_id) {
				// Whoever is away is dialled again in a moment.
				let _ = dials.node.connect(node_id, address, false);
			}
		}
	});

	for line in std::io::stdin().lock().lines() {
		let Ok(request) = serde_json::from_str::<Value>(&line.expect("a line")) else { continue };
		let peer = Arc::clone(&peer);
		// Some calls wait for the peer or the chain; others must not wait for them.
		std::thread::spawn(move || {
			let id = &request["id"];
			say(&match answer(&peer, &request) {
				Ok(result) => json!({ "id": id, "result": result }),
				Err(error) => json!({ "id": id, "error": error }),
			});
		});
	}
	let _ = peer.node.stop();
}

fn answer(peer: &Peer, request: &Value) -> Answer {
	let node = &peer.node;
	match request["method"].as_str().unwrap_or_default() {
		"info" => Ok(json!({
			"height": node.status().current_best_block.height,
			"onchainSat": node.list_balances().total_onchain_balance_sats,
			"peers": connected(node).iter().map(PublicKey::to_string).collect::<Vec<_>>(),
		})),
		"sync" => node.sync_wallets().map(|()| Value::Null).map_err(words),
		"newAddress" => node.onchain_payment().new_address().map(|address| json!(address.to_string())).map_err(words),
		"connect" => {
			let (node_id, address) = (key(request)?, address(request)?);
			peer.wanted.lock().unwrap().insert(node_id, address.clone());
			node.connect(node_id, address, false).map(|()| Value::Null).map_err(words)
		},
		"disconnect" => {
			let node_id = key(request)?;
			peer.wanted.lock().unwrap().remove(&node_id);
			node.disconnect(node_id).map(|()| Value::Null).map_err(words)
		},
		"openChannel" => {
			let (node_id, address, sat) = (key(request)?, address(request)?, number(request, "sat")?);
			let push = request["pushMsat"].as_u64();
			let opened = if request["announced"] == json!(true) {
				node.open_announced_channel(node_id, address, sat, push, None)
			} else {
				node.open_channel(node_id, address, sat, push, None)
			};
			opened.map(|id| json!(id.0.to_string())).map_err(words)
		},
		"listChannels" => Ok(json!(node.list_channels().iter().map(|one| channel(node, one)).collect::<Vec<_>>())),
		"closeChannel" => {
			let id = word(request, "channelId")?;
			let found = node.list_channels().into_iter().find(|one| hex(&one.channel_id.0) == id);
			let one = found.ok_or("no such channel")?;
			let closed = if request["force"] == json!(true) {
				node.force_close_channel(&one.user_channel_id, one.counterparty_node_id, None)
			} else {
				node.close_channel(&one.user_channel_id, one.counterparty_node_id)
			};
			closed.map(|()| Value::Null).map_err(words)
		},
		"setPolicy" => {
			let id = word(request, "channelId")?;
			let found = node.list_channels().into_iter().find(|one| hex(&one.channel_id.0) == id);
			let one = found.ok_or("no such channel")?;
			let mut config = one.config;
			config.forwarding_fee_base_msat = u32::try_from(number(request, "baseMsat")?).map_err(words)?;
			config.forwarding_fee_proportional_millionths = u32::try_from(number(request, "proportionalMillionths")?).map_err(words)?;
			config.cltv_expiry_delta = u16::try_from(number(request, "cltvDelta")?).map_err(words)?;
			let changed = node.update_channel_config(&one.user_channel_id, one.counterparty_node_id, config);
			changed.map(|()| Value::Null).map_err(words)
		},
		"graphChannel" => {
			let scid = word(request, "shortChannelId")?.parse().map_err(words)?;
			Ok(node.network_graph().channel(scid).map_or(Value::Null, |one| graph_channel(&one)))
		},
		"graphNode" => {
			let found = node.network_graph().node(&NodeId::from_pubkey(&key(request)?));
			Ok(found.and_then(|one| one.announcement_info).map_or(Value::Null, |info| graph_node(&info)))
		},
		"pendingCloses" => Ok(json!(pending_closes(node))),
		"invoice" => invoice(node, request),
		"claim" => {
			let (hash, preimage) = (PaymentHash(bytes(request, "paymentHash")?), PaymentPreimage(bytes(request, "preimage")?));
			let amount = number(request, "amountMsat")?;
			node.bolt11_payment().claim_for_hash(hash, amount, preimage).map(|()| Value::Null).map_err(words)
		},
		"fail" => {
			let hash = PaymentHash(bytes(request, "paymentHash")?);
			node.bolt11_payment().fail_for_hash(hash).map(|()| Value::Null).map_err(words)
		},
		"pay" => {
			let invoice = Bolt11Invoice::from_str(&word(request, "bolt11")?).map_err(words)?;
			let sent = match request["amountMsat"].as_u64() {
				Some(amount) => node.bolt11_payment().send_using_amount(&invoice, amount, None),
				None => node.bolt11_payment().send(&invoice, None),
			};
			sent.map(|PaymentId(id)| json!(hex(&id))).map_err(words)
		},
		"keysend" => {
			let sent = node.spontaneous_payment().send(number(request, "amountMsat")?, key(request)?, None);
			sent.map(|PaymentId(id)| json!(hex(&id))).map_err(words)
		},
		other => Err(format!("no method {other}")),
	}
}

fn invoice(node: &Node, request: &Value) -> Answer {
	let description = if request["descriptionHash"].is_string() {
		Bolt11InvoiceDescription::Hash(Sha256(sha256::Hash::from_byte_array(bytes(request, "descriptionHash")?)))
	} else {
		Bolt11InvoiceDescription::Direct(Description::new(word(request, "description")?).map_err(words)?)
	};
	let expiry = u32::try_from(number(request, "expirySeconds")?).map_err(words)?;
	let payments = node.bolt11_payment();
	let made = match (request["amountMsat"].as_u64(), request["paymentHash"].is_string()) {
		(Some(amount), false) => payments.receive(amount, &description, expiry),
		(None, false) => payments.receive_variable_amount(&description, expiry),
		(Some(amount), true) => {
			payments.receive_for_hash(amount, &description, expiry, PaymentHash(bytes(request, "paymentHash")?))
		},
		(None, true) => {
			payments.receive_variable_amount_for_hash(&description, expiry, PaymentHash(bytes(request, "paymentHash")?))
		},
	};
	let invoice = made.map_err(words)?;
	Ok(json!({ "bolt11": invoice.to_string(), "paymentHash": invoice.payment_hash().to_string() }))
}

/// What closed channels wait for: the height that each part is claimable at, or null.
fn pending_closes(node: &Node) -> Vec<Option<u32>> {
	let open: Vec<_> = node.list_channels().into_iter().map(|one| one.channel_id).collect();
	let balances = node.list_balances();
	let waiting = balances.lightning_balances.into_iter().filter_map(|balance| match balance {
		LightningBalance::ClaimableOnChannelClose { channel_id, .. } => (!open.contains(&channel_id)).then_some(None),
		LightningBalance::ClaimableAwaitingConfirmations { confirmation_height, .. } => Some(Some(confirmation_height)),
		LightningBalance::ContentiousClaimable { channel_id, timeout_height, .. } => {
			(!open.contains(&channel_id)).then_some(Some(timeout_height))
		},
		LightningBalance::MaybeTimeoutClaimableHTLC { channel_id, claimable_height, .. } => {
			(!open.contains(&channel_id)).then_some(Some(claimable_height))
		},
		LightningBalance::MaybePreimageClaimableHTLC { channel_id, expiry_height, .. } => {
			(!open.contains(&channel_id)).then_some(Some(expiry_height))
		},
		LightningBalance::CounterpartyRevokedOutputClaimable { .. } => Some(None),
	});
	let swept = balances.pending_balances_from_channel_closures.into_iter().filter_map(|balance| match balance {
		PendingSweepBalance::PendingBroadcast { .. } | PendingSweepBalance::BroadcastAwaitingConfirmation { .. } => Some(None),
		PendingSweepBalance::AwaitingThresholdConfirmations { .. } => None,
	});
	waiting.chain(swept).collect()
}

fn channel(node: &Node, one: &ChannelDetails) -> Value {
	let in_flight = node.list_balances().lightning_balances.into_iter().filter(|balance| match balance {
		LightningBalance::MaybeTimeoutClaimableHTLC { channel_id, .. }
		| LightningBalance::MaybePreimageClaimableHTLC { channel_id, .. } => *channel_id == one.channel_id,
		_ => false,
	});
	json!({
		"channelId": hex(&one.channel_id.0),
		"userChannelId": one.user_channel_id.0.to_string(),
		"counterpartyNodeId": one.counterparty_node_id.to_string(),
		"usable": one.is_usable,
		"announced": one.is_announced,
		"feerateSatPerKw": one.feerate_sat_per_1000_weight,
		"outbound": one.is_outbound,
		"capacitySat": one.channel_value_sats,
		"outboundMsat": one.outbound_capacity_msat,
		"reserveSat": one.unspendable_punishment_reserve.unwrap_or(0),
		"htlcsInFlight": in_flight.count(),
		"fundingTxid": one.funding_txo.map(|point| point.txid.to_string()),
		"fundingIndex": one.funding_txo.map(|point| point.vout),
		"shortChannelId": one.short_channel_id.map(|scid| scid.to_string()),
	})
}

fn graph_channel(one: &ChannelInfo) -> Value {
	let policy = |update: &ChannelUpdateInfo| {
		json!({
			"timestamp": update.last_update,
			"baseMsat": update.fees.base_msat,
			"proportionalMillionths": update.fees.proportional_millionths,
			"cltvDelta": update.cltv_expiry_delta,
			"htlcMinimumMsat": update.htlc_minimum_msat,
			"htlcMaximumMsat": update.htlc_maximum_msat,
			"disabled": !update.enabled,
		})
	};
	json!({
		"nodeId1": hex(one.node_one.as_slice()),
		"nodeId2": hex(one.node_two.as_slice()),
		"policy1": one.one_to_two.as_ref().map(policy),
		"policy2": one.two_to_one.as_ref().map(policy),
	})
}

fn graph_node(info: &NodeAnnouncementInfo) -> Value {
	let mut features = info.features().le_flags().to_vec();
	features.reverse();
	json!({
		"alias": info.alias().to_string(),
		"addresses": info.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
		"features": hex(&features),
	})
}

fn event(event: &Event) -> Value {
	match event {
		Event::PaymentSuccessful { payment_id, payment_preimage, fee_paid_msat, .. } => json!({
			"event": "payment_sent",
			"paymentId": payment_id.map(|id| hex(&id.0)),
			"preimage": payment_preimage.map(|preimage| hex(&preimage.0)),
			"feeMsat": fee_paid_msat,
		}),
		Event::PaymentFailed { payment_id, reason, .. } => json!({
			"event": "payment_failed",
			"paymentId": payment_id.map(|id| hex(&id.0)),
			"reason": reason.map(|reason| format!("{reason:?}")),
		}),
		Event::PaymentClaimable { payment_hash, claimable_amount_msat, .. } => json!({
			"event": "payment_claimable",
			"paymentHash": hex(&payment_hash.0),
			"amountMsat": claimable_amount_msat,
		}),
		Event::ChannelPending { user_channel_id, .. } => {
			json!({ "event": "channel_pending", "userChannelId": user_channel_id.0.to_string() })
		},
		Event::ChannelClosed { user_channel_id, reason, .. } => json!({
			"event": "channel_closed",
			"userChannelId": user_channel_id.0.to_string(),
			"reason": reason.as_ref().map(ToString::to_string),
		}),
		other => json!({ "event": "other", "text": format!("{other:?}") }),
	}
}

fn connected(node: &Node) -> Vec<PublicKey> {
	node.list_peers().into_iter().filter(|peer| peer.is_connected).map(|peer| peer.node_id).collect()
}

fn words(error: impl std::fmt::Display) -> String {
	error.to_string()
}

fn word(request: &Value, name: &str) -> Result<String, String> {
	request[name].as_str().map(str::to_string).ok_or(format!("{name} is missing"))
}

fn number(request: &Value, name: &str) -> Result<u64, String> {
	request[name].as_u64().ok_or(format!("{name} is missing"))
}

fn key(request: &Value) -> Result<PublicKey, String> {
	PublicKey::from_str(&word(request, "nodeId")?).map_err(words)
}

fn address(request: &Value) -> Result<SocketAddress, String> {
	let port = u16::try_from(number(request, "port")?).map_err(words)?;
	let host: Ipv4Addr = request["host"].as_str().unwrap_or("127.0.0.1").parse().map_err(words)?;
	Ok(SocketAddress::TcpIpV4 { addr: host.octets(), port })
}

fn bytes(request: &Value, name: &str) -> Result<[u8; 32], String> {
	let text = word(request, name)?;
	let digits = |at: usize| text.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
	let decoded = (0..32).map(digits).collect::<Option<Vec<u8>>>().ok_or(format!("{name} is not hex"))?;
	decoded.try_into().map_err(|_| format!("{name} has not 32 bytes"))
}

fn hex(bytes: &[u8]) -> String {
	bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
