import type { Summary } from './report.ts';

const WIDTH = 760;
const ROW = 26;
const LABEL = 270;
const BAR = 380;
const TOP = 64;

/**
 * Bars of items per second, as an SVG that reads well on light and dark pages and aloud: its description says every figure, and text
 * stands in the page's own colour.
 */
export function chart(summary: readonly Summary[], title: string): string {
  const shown = summary.filter(({ kind }) => kind !== 'limit').sort((a, b) => b.rate - a.rate);
  const most = Math.max(...shown.map(({ rate }) => rate));
  const height = TOP + shown.length * ROW + 30;
  const whole = (value: number) => Math.round(value).toLocaleString('en');
  const said = shown.map(({ label, rate }) => `${label}: ${whole(rate)} items per second`).join('; ');
  const rows = shown.map(({ label, kind, rate }, i) => {
    const y = TOP + i * ROW;
    const width = Math.max(2, (rate / most) * BAR);
    return [
      `<text x="${LABEL - 10}" y="${y + 15}" text-anchor="end">${xml(label)}</text>`,
      `<rect class="${kind}" x="${LABEL}" y="${y + 3}" width="${width.toFixed(1)}" height="16" rx="3"/>`,
      `<text x="${(LABEL + width + 8).toFixed(1)}" y="${y + 15}">${whole(rate)}</text>`,
    ].join('');
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="title desc">
<title id="title">${xml(title)}</title>
<desc id="desc">${xml(said)}.</desc>
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.heading { font-size: 15px; font-weight: 600 }
.millrace { fill: #0a7f5a } .item { fill: #8250df } .chunked { fill: #9a6700 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .millrace { fill: #3fb98c } .item { fill: #b392f0 } .chunked { fill: #d4a72c } }
</style>
<text class="heading" x="12" y="24">${xml(title)}</text>
<rect class="millrace" x="12" y="36" width="12" height="12" rx="2"/><text x="30" y="47">Millrace</text>
<rect class="item" x="110" y="36" width="12" height="12" rx="2"/><text x="128" y="47">one queue entry per item</text>
<rect class="chunked" x="310" y="36" width="12" height="12" rx="2"/><text x="328" y="47">500 items per entry, by hand: no outcome per item</text>
${rows.join('\n')}
</svg>
`;
}

export function xml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
