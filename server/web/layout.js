// Where the candidates stand: columns from first stage to last, a row for each branch, and no two edges cross.

import { STAGES } from "./sections.js";

/** `cells` by id as `{column, row}`, `turns` as `{column, row, number}` above what a retrace has brought, and how many
 * `columns` and `rows` there are. */
export function layout(search) {
  const columns = columnsOf(search.nodes);
  const used = [...new Set(columns)].sort((a, b) => a - b);
  const plan = {
    search,
    columns: columns.map((column) => used.indexOf(column)),
    children: childrenOf(search.nodes),
    free: used.map(() => 0), // by column, the first row that holds nothing
    cells: new Map(),
    turns: [],
  };
  for (const root of search.nodes.filter((node) => node.parent === null)) place(plan, root, 0);
  return { cells: plan.cells, turns: plan.turns, columns: used.length, rows: Math.max(0, ...plan.free) };
}

/** A stage has its column; what continues a stage within itself, as sentences do, stands one further. */
function columnsOf(nodes) {
  const columns = [];
  for (const { id, parent, stage } of nodes) {
    columns[id] = Math.max(STAGES.indexOf(stage), parent === null ? 0 : columns[parent] + 1);
  }
  return columns;
}

function childrenOf(nodes) {
  const children = nodes.map(() => []);
  for (const node of nodes) if (node.parent !== null) children[node.parent].push(node);
  return children;
}

/** A first child stands in its parent's row, the others below. A parent that finds no room beside it for its first
 * child moves down, so that its edges stay clear of those above. */
function place(plan, node, least) {
  const turn = turnAt(plan, node);
  if (turn) {
    const row = Math.max(...plan.free);
    plan.turns.push({ column: plan.columns[node.id], row, number: turn });
    plan.free.fill(row + 1);
  }
  const wanted = firstLine(plan, node).flatMap((each) => span(plan, each));
  const row = Math.max(least, ...wanted.map((column) => plan.free[column]));
  for (const column of span(plan, node)) plan.free[column] = row + 1;
  plan.cells.set(node.id, { column: plan.columns[node.id], row });
  for (const child of plan.children[node.id]) place(plan, child, row);
}

/** The number of the retrace that `node` is the first candidate of. */
function turnAt({ search }, { id, round }) {
  const { turn, first } = search.rounds[round];
  return turn && first === id ? search.rounds.slice(0, round + 1).filter((each) => each.turn).length : 0;
}

/** A node, its first child, and so on. */
function firstLine(plan, node) {
  const child = plan.children[node.id][0];
  return child && !turnAt(plan, child) ? [node, ...firstLine(plan, child)] : [node];
}

/** The columns that a node and the edge to it take up in its row. */
function span({ columns }, { id, parent }) {
  const first = parent === null ? columns[id] : columns[parent] + 1;
  return Array.from({ length: columns[id] - first + 1 }, (_, index) => first + index);
}
