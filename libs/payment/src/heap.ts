/** A binary heap of (cost, node) in two growing arrays: the queue of Dijkstra's search. */
export class CostHeap {
  readonly #costs: number[] = [];
  readonly #nodes: number[] = [];

  get size(): number {
    return this.#costs.length;
  }

  push(cost: number, node: number): void {
    const costs = this.#costs;
    const nodes = this.#nodes;
    let at = costs.length;
    costs.push(cost);
    nodes.push(node);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const parentCost = costs[parent] ?? 0;
      if (parentCost <= cost) break;
      costs[at] = parentCost;
      nodes[at] = nodes[parent] ?? 0;
      at = parent;
    }
    costs[at] = cost;
    nodes[at] = node;
  }

  /** Takes the cheapest node; undefined when empty. */
  pop(): { readonly cost: number; readonly node: number } | undefined {
    const costs = this.#costs;
    const nodes = this.#nodes;
    const cost = costs[0];
    const node = nodes[0];
    const lastCost = costs.pop();
    const lastNode = nodes.pop();
    if (cost === undefined || node === undefined || lastCost === undefined || lastNode === undefined)
      return undefined;
    const length = costs.length;
    if (length > 0) {
      let at = 0;
      for (;;) {
        let child = 2 * at + 1;
        if (child >= length) break;
        if (child + 1 < length && (costs[child + 1] ?? 0) < (costs[child] ?? 0)) child++;
        if ((costs[child] ?? 0) >= lastCost) break;
        costs[at] = costs[child] ?? 0;
        nodes[at] = nodes[child] ?? 0;
        at = child;
      }
      costs[at] = lastCost;
      nodes[at] = lastNode;
    }
    return { cost, node };
  }
}
