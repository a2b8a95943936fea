/**
 * How the report looks, and the few lines of script that filter its rows. Light and dark as the reader's system is.
 */

export const reportStyle = `
:root{--page:#f5f6f8;--card:#fff;--ink:#161a23;--soft:#5c6575;--line:#e4e7ed;--field:#f3f4f7;--accent:#4f46e5;--on-accent:#fff;--accent-soft:#c9c6f8;--good:#157f4b;--good-soft:#e4f5eb;--bad:#b3261e;--bad-soft:#fdebe9;--shadow:0 1px 2px rgba(16,24,40,.05),0 8px 24px -12px rgba(16,24,40,.12)}
@media (prefers-color-scheme:dark){:root{--page:#0d1016;--card:#151a23;--ink:#e8ebf1;--soft:#98a2b4;--line:#272e3b;--field:#1c222d;--accent:#9d99ff;--on-accent:#0d1016;--accent-soft:#3a3a78;--good:#56d28c;--good-soft:#12301f;--bad:#ff8a80;--bad-soft:#3a1a1a;--shadow:0 1px 2px rgba(0,0,0,.4)}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1080px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:34px;line-height:1.15;letter-spacing:-.02em;margin:14px 0 6px;overflow-wrap:anywhere}
h2{font-size:19px;letter-spacing:-.01em;margin:0 0 4px}
h3{font-size:11px;font-weight:650;text-transform:uppercase;letter-spacing:.07em;color:var(--soft);margin:16px 0 6px}
p{margin:0}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono","DejaVu Sans Mono",monospace;font-size:13px}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
.brand{display:flex;align-items:center;gap:10px;font-weight:650}
.brand time{margin-left:auto;font-weight:400;color:var(--soft);font-size:14px}
.logo rect{fill:var(--accent)}
.logo path{fill:none;stroke:var(--on-accent);stroke-width:3;stroke-linecap:round;stroke-linejoin:round}
.lead{font-size:17px;color:var(--soft);overflow-wrap:anywhere}
.lead b{color:var(--ink);font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin:26px 0 0}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:14px;box-shadow:var(--shadow)}
.tile{padding:16px 18px}
.tile dt{color:var(--soft);font-size:13px}
.tile dd{margin:2px 0 0;font-size:26px;font-weight:650;letter-spacing:-.02em;line-height:1.25;white-space:nowrap}
.tile .note{white-space:normal;font-size:13px;font-weight:400;letter-spacing:0;color:var(--soft)}
.card{padding:24px 26px 26px;margin-top:16px}
.hint{color:var(--soft);font-size:14px}
.good{color:var(--good)}.bad{color:var(--bad)}
.chart{margin:18px 0 6px}
.chart-line{display:grid;grid-template-columns:minmax(110px,210px) 1fr 132px;gap:22px;align-items:center}
.chart-label b{display:block;font-weight:600;line-height:1.3;overflow-wrap:anywhere}
.chart-label span{color:var(--soft);font-size:13px}
.chart-plot svg{display:block;overflow:visible;height:52px}
.chart-plot svg>*{transform:translateY(6px)}
.chart-value{white-space:nowrap}
.chart-value b{font-size:20px;font-weight:650;letter-spacing:-.01em}
.chart-value .error{color:var(--soft);font-size:14px}
.ticks{position:relative;height:20px;color:var(--soft);font-size:12px}
.ticks span{position:absolute;transform:translateX(-50%)}
.ticks span:last-child::after{content:" %";position:absolute;white-space:pre}
.grid{stroke:var(--line);stroke-width:1}
.track{fill:var(--field)}
.bar{fill:var(--accent-soft)}
.dot{fill:var(--accent);stroke:var(--card);stroke-width:2}
.whisker{stroke:var(--accent);stroke-width:2}
.chance{stroke:var(--soft);stroke-width:2;stroke-dasharray:3 3}
.more{margin-top:14px}
.more>summary{cursor:pointer;color:var(--accent);font-size:14px;width:max-content}
.wide{overflow-x:auto;margin:10px 0}
table{border-collapse:collapse;font-size:14px;width:100%}
th,td{text-align:left;padding:7px 14px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:500;color:var(--soft);white-space:nowrap}
.n{text-align:right}
th:last-child,td:last-child{padding-right:0}
button,input{font:inherit;color:inherit}
.tabs{display:flex;flex-wrap:wrap;gap:4px;margin:14px 0 12px;border-bottom:1px solid var(--line)}
.tabs button{border:0;background:none;padding:8px 14px;margin-bottom:-1px;cursor:pointer;color:var(--soft);border-bottom:2px solid transparent}
.tabs button[aria-selected=true]{color:var(--ink);font-weight:600;border-color:var(--accent)}
.tools{display:flex;flex-wrap:wrap;gap:10px;justify-content:space-between;margin:12px 0 14px}
.filters{display:flex;flex-wrap:wrap;gap:6px}
.filters button{border:1px solid var(--line);background:var(--card);border-radius:999px;padding:4px 13px;cursor:pointer;font-size:14px}
.filters button span{color:var(--soft)}
.filters button[aria-pressed=true]{background:var(--accent);border-color:var(--accent);color:var(--on-accent)}
.filters button[aria-pressed=true] span{color:inherit;opacity:.8}
input[type=search]{border:1px solid var(--line);background:var(--field);border-radius:9px;padding:5px 12px;font-size:14px;min-width:230px}
:is(button,input,summary,a):focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.rows{border:1px solid var(--line);border-radius:11px;overflow:hidden;max-height:720px;overflow-y:auto}
.row-head,.row summary{display:grid;grid-template-columns:22px 64px minmax(0,1fr) minmax(0,.42fr) minmax(0,.5fr);gap:14px;padding:8px 14px;align-items:baseline}
.row-head{color:var(--soft);font-size:13px;background:var(--field);position:sticky;top:0;z-index:1;border-bottom:1px solid var(--line)}
.row+.row{border-top:1px solid var(--line)}
.row summary{cursor:pointer;list-style:none;font-size:14px}
.row summary::-webkit-details-marker{display:none}
.row summary:hover{background:var(--field)}
.row .id{color:var(--soft);overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.row .text{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.mark{display:inline-grid;place-items:center;width:20px;height:20px;border-radius:50%;font-size:12px;font-weight:700;background:var(--field);color:var(--soft)}
.right .mark{background:var(--good-soft);color:var(--good)}
.wrong .mark{background:var(--bad-soft);color:var(--bad)}
.error .mark{background:var(--bad);color:var(--card)}
.right .given{color:var(--good)}.wrong .given,.error .given{color:var(--bad)}
.row[open]{background:var(--page)}
.row .body{padding:2px 18px 18px 50px;overflow:hidden}
.row pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;background:var(--field);border:1px solid var(--line);border-radius:9px;padding:11px 13px;max-height:340px;overflow-y:auto}
.row pre i{color:var(--soft)}
.options,.columns{width:auto;min-width:50%}
.options td:first-child{color:var(--soft);white-space:nowrap}
.judged{margin:0;padding:0;list-style:none}
.meta{color:var(--soft);font-size:13px;margin-top:14px;overflow-wrap:anywhere}
.empty{color:var(--soft);padding:18px 2px 0}
.command{margin:14px 0 18px;background:var(--field);border:1px solid var(--line);border-radius:9px;padding:12px 15px;overflow-x:auto}
.facts{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:0 34px;margin:0}
.facts div{display:flex;gap:14px;padding:8px 0;border-top:1px solid var(--line)}
.facts dt{color:var(--soft);flex:0 0 104px;font-size:14px}
.facts .whole{grid-column:1/-1}
.facts dd{margin:0;min-width:0;overflow-wrap:anywhere}
.files{list-style:none;margin:0;padding:0}
.files li{display:flex;flex-wrap:wrap;justify-content:space-between;gap:4px 18px;padding:7px 0;border-top:1px solid var(--line)}
.files a{overflow-wrap:anywhere}
.files span{color:var(--soft);font-size:14px}
footer{color:var(--soft);font-size:13px;text-align:center;margin-top:30px}
[hidden]{display:none!important}
@media (max-width:760px){main{padding:26px 14px 40px}h1{font-size:27px}.tile dd{font-size:22px}.tiles{grid-template-columns:repeat(2,1fr)}.card{padding:18px 16px 20px}.chart-line{grid-template-columns:1fr auto;gap:0 14px}.chart-plot{grid-column:1/-1;order:3}.chart-axis{grid-template-columns:1fr}.chart-axis>div:not(.ticks){display:none}.facts{grid-template-columns:1fr}.row-head{display:none}.row summary{grid-template-columns:22px minmax(0,1fr)}.row .id{display:none}.row .text{grid-column:2}.row .body{padding-left:16px}input[type=search]{width:100%}}
@media print{body{background:#fff}.card,.tile{box-shadow:none;break-inside:avoid}.tools,.tabs{display:none}.rows{max-height:none}}
`;

/** Without it the page shows everything: it only hides. */
export const reportScript = `
const panels = [...document.querySelectorAll('.panel')];
const tabs = [...document.querySelectorAll('[data-tab]')];
const open = (tab) => {
  for (const other of tabs) other.setAttribute('aria-selected', String(other === tab));
  for (const panel of panels) panel.hidden = panel.dataset.panel !== tab.dataset.tab;
};
for (const tab of tabs) tab.addEventListener('click', () => open(tab));
if (tabs.length > 0) open(tabs[0]);
for (const panel of panels) {
  const rows = [...panel.querySelectorAll('.row')].map((element) => ({ element, text: element.textContent.toLowerCase() }));
  const buttons = [...panel.querySelectorAll('[data-filter]')];
  const search = panel.querySelector('input');
  let wanted = 'all';
  const apply = () => {
    const words = search.value.toLowerCase();
    let visible = 0;
    for (const { element, text } of rows) {
      const show = (wanted === 'all' || element.dataset.verdict === wanted) && text.includes(words);
      element.hidden = !show;
      if (show) visible += 1;
    }
    panel.querySelector('.empty').hidden = visible > 0;
    panel.querySelector('.rows').hidden = visible === 0;
  };
  for (const button of buttons) {
    button.addEventListener('click', () => {
      wanted = button.dataset.filter;
      for (const other of buttons) other.setAttribute('aria-pressed', String(other === button));
      apply();
    });
  }
  search.addEventListener('input', apply);
}
`;
