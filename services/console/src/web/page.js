// Shows runs as the event stream tells them. Every text goes through textContent: names and errors come from outside.
const body = document.getElementById('runs');
const empty = document.getElementById('empty');
const link = document.getElementById('link');
const MARKS = {
  planning: '◔ planning',
  running: '▶ running',
  succeeded: '✓ succeeded',
  partial: '◑ partial',
  failed: '✗ failed',
  cancelled: '⊘ cancelled',
  expired: '⌛ expired',
};
const rows = new Map();
const number = new Intl.NumberFormat();

function rowOf(run) {
  let row = rows.get(run.runId);
  if (!row) {
    row = { element: document.createElement('tr'), startedAt: '' };
    row.cells = Array.from({ length: 8 }, (_, i) => {
      const cell = document.createElement('td');
      if (i > 2) cell.className = 'n';
      row.element.append(cell);
      return cell;
    });
    row.name = document.createElement('div');
    row.trace = document.createElement('div');
    row.trace.className = 'trace';
    row.cells[0].append(row.name, row.trace);
    row.bar = document.createElement('progress');
    row.share = document.createElement('span');
    row.share.className = 'share';
    row.cells[2].append(row.bar, row.share);
    rows.set(run.runId, row);
  }
  return row;
}

/** The trace id; a link where it is known where Jaeger is. */
function showTrace(place, { traceId, traceUrl }) {
  if (traceUrl) {
    const link = document.createElement('a');
    link.href = traceUrl;
    link.textContent = `trace ${traceId}`;
    place.replaceChildren(link);
  } else place.textContent = traceId ? `trace ${traceId}` : '';
}

function took(ms) {
  if (ms < 1000) return `${ms} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

function show(run) {
  const row = rowOf(run);
  const { cells, bar, share } = row;
  const { done, planned } = run.progress;
  const failing = run.counts.failed + run.counts.rejected + run.counts.expired + run.counts.cancelled + run.counts.indeterminate;
  row.name.textContent = run.generation > 0 ? `${run.runId} (redrive ${run.generation})` : run.runId;
  showTrace(row.trace, run);
  cells[1].textContent = MARKS[run.verdict ?? run.state] ?? run.state;
  cells[1].className = run.verdict === 'succeeded' ? 'good' : run.verdict && run.verdict !== 'partial' ? 'bad' : '';
  bar.max = Math.max(1, planned);
  bar.value = planned === 0 && run.state === 'closed' ? 1 : done;
  bar.setAttribute('aria-label', `progress of ${run.runId}`);
  share.textContent = `${number.format(done)} / ${number.format(planned)}`;
  cells[3].textContent = number.format(run.counts.applied);
  cells[4].textContent = number.format(run.counts.skipped + run.counts.duplicate);
  cells[5].textContent = number.format(failing);
  cells[5].className = failing > 0 ? 'n bad' : 'n';
  cells[6].textContent = number.format(Math.round(run.itemsPerSecond));
  cells[7].textContent = took(run.durationMs);
  if (row.startedAt !== run.startedAt) {
    row.startedAt = run.startedAt;
    const before = [...rows.values()]
      .filter((other) => other !== row && other.startedAt < run.startedAt)
      .sort((a, b) => (a.startedAt < b.startedAt ? 1 : -1))[0];
    body.insertBefore(row.element, before ? before.element : null);
  }
}

const events = new EventSource('/v1/events');
events.addEventListener('open', () => {
  link.textContent = 'live';
});
events.addEventListener('error', () => {
  link.textContent = 'connection lost, trying again …';
});
events.addEventListener('runs', (event) => {
  for (const run of JSON.parse(event.data)) show(run);
  empty.hidden = rows.size > 0;
});
