import { xml } from './chart.ts';

/** What Node's profiler writes. */
export interface Profile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  /** Microseconds. */
  readonly timeDeltas: readonly number[];
}

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly children?: readonly number[];
}

interface Frame {
  readonly name: string;
  readonly kind: 'own' | 'node' | 'engine';
  total: number;
  readonly calls: Map<string, Frame>;
}

const WIDTH = 1_200;
const ROW = 17;
/** Narrower frames are left out, in pixels. */
const LEAST = 1.5;

/** A flame graph, callers on top: the width of a frame is its share of the time that the process was busy. Names and shares show on hover. */
export function flame({ nodes, samples, timeDeltas }: Profile, title: string): string {
  const times = new Map<number, number>();
  for (const [i, id] of samples.entries()) times.set(id, (times.get(id) ?? 0) + (timeDeltas[i] ?? 0));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const root = frameOf(nodes[0] as ProfileNode);
  merge(root, nodes[0] as ProfileNode, byId, times);
  const boxes: string[] = [];
  let depths = 0;
  const draw = (frame: Frame, x: number, depth: number) => {
    const width = (frame.total / root.total) * WIDTH;
    if (width < LEAST) return;
    depths = Math.max(depths, depth + 1);
    const y = 30 + depth * ROW;
    const share = `${((frame.total * 100) / root.total).toFixed(1)} %`;
    const shown = frame.name.slice(0, Math.floor(width / 6.5));
    boxes.push(
      `<g><title>${xml(frame.name)}: ${share}</title><rect class="${frame.kind}" x="${x.toFixed(1)}" y="${y}" width="${Math.max(0.5, width - 0.5).toFixed(1)}" height="${ROW - 1}"/>` +
        `${shown.length > 2 ? `<text x="${(x + 3).toFixed(1)}" y="${y + 12}">${xml(shown)}</text>` : ''}</g>`,
    );
    let at = x;
    for (const call of [...frame.calls.values()].sort((a, b) => b.total - a.total)) {
      draw(call, at, depth + 1);
      at += (call.total / root.total) * WIDTH;
    }
  };
  draw(root, 0, 0);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${40 + depths * ROW}" role="img">
<title>${xml(title)}</title>
<style>text { font: 11px ui-monospace, monospace; fill: #1f2328 } .heading { font-size: 14px } .own { fill: #f2a65a } .node { fill: #c9ced6 } .engine { fill: #e07a5f }
@media (prefers-color-scheme: dark) { .heading { fill: #e6edf3 } }</style>
<text class="heading" x="3" y="18">${xml(title)}</text>
${boxes.join('\n')}
</svg>
`;
}

/** Calls of one function by one caller become one frame, whichever line they stand in; time in which nothing was to be done is left out. */
function merge(frame: Frame, node: ProfileNode, byId: ReadonlyMap<number, ProfileNode>, times: ReadonlyMap<number, number>): void {
  const own = times.get(node.id) ?? 0;
  frame.total += own;
  for (const id of node.children ?? []) {
    const child = byId.get(id);
    if (!child || child.callFrame.functionName === '(idle)' || child.callFrame.functionName === '(program)') continue;
    const place = `${child.callFrame.functionName} ${child.callFrame.url}:${child.callFrame.lineNumber}`;
    const called = frame.calls.get(place) ?? frameOf(child);
    frame.calls.set(place, called);
    const before = called.total;
    merge(called, child, byId, times);
    frame.total += called.total - before;
  }
}

function frameOf({ callFrame: { functionName, url } }: ProfileNode): Frame {
  const kind = url.startsWith('file:') ? 'own' : url.startsWith('node:') ? 'node' : 'engine';
  return { name: functionName || '(anonymous)', kind, total: 0, calls: new Map() };
}
