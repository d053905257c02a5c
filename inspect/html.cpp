#include "inspect/html.h"

#include "inspect/wording.h"

namespace regauge::inspect {
namespace {

// Cells take a hue from their class; how light they are is the theme's affair, so that text keeps its contrast in both.
constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark; --bg: #fff; --fg: #1a1c1f; --soft: #5c636b; --line: #d8dce1; --head: #f2f4f6;
  --accent: #1f5fbf; --good: #17703a; --bad: #b3261e; --cell-s: 72%; --cell-l: 82%; --cell-fg: #16181b; --none: #eceef0; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #15181c; --fg: #e4e7eb; --soft: #9aa3ad; --line: #343a41; --head: #1f242a; --accent: #7fb2ff;
    --good: #63c78a; --bad: #ff8a80; --cell-s: 48%; --cell-l: 26%; --cell-fg: #f2f4f6; --none: #23282e; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem 2rem 4rem; background: var(--bg); color: var(--fg); font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.45rem; margin: 0 0 .6rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: .95rem; margin: 0 0 .35rem; }
code, .name { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .92em; overflow-wrap: anywhere; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; }
.verdict { font-weight: 700; } .good { color: var(--good); } .bad { color: var(--bad); } .soft { color: var(--soft); }
ul.plain { list-style: none; margin: .3rem 0; padding: 0; }
details > summary { cursor: pointer; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
table.sortable th, table.sortable td { padding: .22rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
table.sortable th { background: var(--head); position: sticky; top: 0; padding: 0; }
table.sortable th.l, table.sortable td.l { text-align: left; }
table.sortable td.name { white-space: normal; min-width: 27rem; max-width: 40rem; }
table.sortable tfoot td { font-weight: 600; border-top: 2px solid var(--line); }
th button { all: unset; box-sizing: border-box; width: 100%; padding: .3rem .6rem; cursor: pointer; font-weight: 600; white-space: nowrap; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; }
th button::after { content: "\2195"; margin-left: .35em; opacity: .35; }
th[aria-sort=ascending] button::after { content: "\2191"; opacity: 1; } th[aria-sort=descending] button::after { content: "\2193"; opacity: 1; }
.maps { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; align-items: flex-start; margin: 1rem 0 1.6rem; }
.maps section { min-width: 0; max-width: 100%; overflow-x: auto; }
table.map { border-spacing: 2px; border-collapse: separate; font-size: 11px; }
table.map th { font-weight: 500; color: var(--soft); }
table.map thead th { vertical-align: bottom; padding: 0 0 .3rem; }
table.map thead th.group { border-bottom: 2px solid var(--line); padding: 0 .2rem .1rem; text-align: left; max-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
table.map thead th span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 11rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; display: inline-block; }
table.map tbody th { text-align: right; padding-right: .4rem; max-width: 26rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
table.map td { min-width: 2.6rem; height: 1.35rem; padding: 0 .2rem; text-align: center; background: var(--none); border-radius: 2px; color: var(--cell-fg); }
table.map td[class] { background: hsl(var(--h) var(--cell-s) var(--cell-l)); }
table.map td.void { background: none; }
table.map td.gone { background: repeating-linear-gradient(45deg, var(--none) 0 4px, var(--line) 4px 8px); color: var(--bad); font-weight: 700; }
.b1 { --h: 0; } .b2 { --h: 18; } .b3 { --h: 34; } .b4 { --h: 50; } .b5 { --h: 75; } .b6 { --h: 105; } .b7 { --h: 165; } .b8 { --h: 195; } .b16 { --h: 215; } .b32 { --h: 255; }
.e0 { --h: 150; } .e1 { --h: 175; } .e2 { --h: 120; } .e3 { --h: 90; } .e4 { --h: 62; } .e5 { --h: 46; } .e6 { --h: 30; } .e7 { --h: 14; } .e8 { --h: 350; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem .9rem; font-size: 12px; color: var(--soft); margin: .5rem 0; }
.legend i { display: inline-block; width: .9rem; height: .9rem; border-radius: 2px; vertical-align: -.12rem; margin-right: .3rem; background: hsl(var(--h) var(--cell-s) var(--cell-l)); }
.legend i.gone { background: repeating-linear-gradient(45deg, var(--none) 0 3px, var(--line) 3px 6px); }
.plots { display: flex; flex-wrap: wrap; gap: 1.2rem 2rem; }
figure { margin: 0; } figcaption { font-size: 12px; color: var(--soft); }
svg text { fill: var(--soft); font-size: 10px; font-family: system-ui, sans-serif; } svg .bar { fill: var(--accent); } svg .axis { stroke: var(--line); }
)css";

constexpr std::string_view kScript = R"js(
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending" && !head.classList.contains("l")
      || head.classList.contains("l") && head.getAttribute("aria-sort") === "ascending";
    const value = row => {
      const cell = row.cells[column], v = cell.dataset.v;
      return v === undefined ? cell.textContent : v === "" ? -Infinity : Number(v);
    };
    const rows = [...table.tBodies[0].rows].map((row, i) => [value(row), i, row]);
    rows.sort((a, b) => {
      const order = typeof a[0] === "number" ? (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0)
        : a[0].localeCompare(b[0], "en", { numeric: true });
      return (down ? -order : order) || a[1] - b[1];
    });
    for (const [, , row] of rows) table.tBodies[0].append(row);
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  }));
}
)js";

}  // namespace

std::string html_text(std::string_view text) {
  std::string out;
  for (const char c : cell(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string html_page(std::string_view title, std::string_view body) {
  std::string out = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  // Names come from files: nothing that one of them might smuggle in may be fetched or run.
  out +=
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline'; img-src data:\">\n<link rel=\"icon\" href=\"data:,\">\n<title>";
  out += html_text(title);
  out += "</title>\n<style>";
  out += kStyle;
  out += "</style>\n</head>\n<body>\n";
  out += body;
  out += "<script>";
  out += kScript;
  return out + "</script>\n</body>\n</html>\n";
}

}  // namespace regauge::inspect
