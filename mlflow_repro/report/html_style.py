"""The style sheet of the HTML report: light, dark and print, with no file but itself."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f3f4f6; --ink: #1b1f24; --faint: #57606a; --line: #c9ced6;
  --same: #116329; --different: #a40e26; --unknown: #7a4d00; --link: #0550ae;
  --one: #0550ae; --other: #bc4c00;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #12161c; --raised: #1d232c; --ink: #e8ecf1; --faint: #a3adb9; --line: #3d4653;
    --same: #6fdd8b; --different: #ff9492; --unknown: #f0b72f; --link: #84b6ff;
    --one: #84b6ff; --other: #ffa657;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; }
.skip:focus { position: static; }
.verdict { border: 2px solid; border-radius: .5rem; padding: .75rem 1rem; margin: 1rem 0; }
.verdict strong { font-size: 1.35rem; margin-right: .75rem; }
.verdict p { margin: .25rem 0 0; color: var(--ink); }
.verdict.same { color: var(--same); } .verdict.different { color: var(--different); }
.verdict.unknown { color: var(--unknown); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .375rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; color: var(--faint); padding: .35rem .6rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-top: 1px solid var(--line);
  max-width: 26rem; }
th, tbody td:first-child { overflow-wrap: normal; }
td.name { min-width: 7rem; } td.value { min-width: 8rem; } td.note { min-width: 14rem; }
td.result { overflow-wrap: normal; }
thead th { background: var(--raised); }
tr.different td.result, tr.unknown td.result { font-weight: 600; }
tr.same td.result { color: var(--same); }
tr.different td.result { color: var(--different); }
tr.unknown td.result { color: var(--unknown); }
tr.ignored td { color: var(--faint); }
code, pre, td.value { font-family: ui-monospace, monospace; font-size: .85rem; }
pre { background: var(--raised); border: 1px solid var(--line); border-radius: .375rem; padding: .75rem;
  white-space: pre-wrap; }
summary { cursor: pointer; padding: .35rem 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: .375rem; padding: .6rem; break-inside: avoid; }
figcaption { font-size: .9rem; color: var(--faint); }
figcaption b { color: var(--ink); }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.one { stroke: var(--one); } .other { stroke: var(--other); stroke-dasharray: 5 3; }
.frame { fill: none; stroke: var(--line); } .mark { stroke: var(--different); stroke-width: 1.5; }
svg text.mark-label { fill: var(--different); }
.key { border-bottom: 3px solid; padding-bottom: 1px; margin-right: .75rem; }
.key-one { border-color: var(--one); } .key-other { border-color: var(--other); border-bottom-style: dashed; }
footer { margin-top: 3rem; color: var(--faint); font-size: .85rem; }
@media print {
  body { max-width: none; padding: 0; } nav, .skip { display: none; }
  .scroll { overflow: visible; border: 0; } tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
