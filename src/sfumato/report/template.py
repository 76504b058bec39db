"""The style sheet and the frame of the page. Whatever goes into them is escaped HTML already."""

from string import Template

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1d2127; --soft: #5f6874; --line: #e2e5e9; --wash: #f5f6f8;
  --gap: #d3d7dc; --warn: #8a4b00; --warn-wash: #fff6e5; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e4e7eb; --soft: #9aa3ae; --line: #2c323a;
  --wash: #1c2026; --gap: #39414a; --warn: #f0c070; --warn-wash: #2b2415; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 56px 0 8px; font-weight: 650; }
h3 { font-size: 1rem; margin: 0 0 4px; font-weight: 600; }
p { margin: 6px 0 14px; max-width: 74ch; }
.under { color: var(--soft); margin: 6px 0 0; }
.facts { display: flex; flex-wrap: wrap; gap: 14px 36px; margin: 26px 0 0; padding: 16px 0; border: solid var(--line);
  border-width: 1px 0; }
.facts div { min-width: 84px; }
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { margin: 0; font-size: 1.05rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.facts small { display: block; font-weight: 400; font-size: .8rem; color: var(--soft); }
.note { border-left: 3px solid var(--warn); background: var(--warn-wash); padding: 8px 14px; margin: 18px 0 0;
  max-width: none; }
.missing { color: var(--soft); }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 28px 36px; align-items: start; }
.three { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 280px), 1fr));
  gap: 24px 32px; align-items: start; }
figure { margin: 14px 0 0; min-width: 0; }
figcaption, .caption { color: var(--soft); font-size: .88rem; line-height: 1.45; margin-top: 8px; max-width: 74ch; }
.two h3 + figure, .three h3 + figure { margin-top: 4px; }
img { display: block; max-width: 100%; height: auto; }
svg.figure { display: block; width: 100%; height: auto; color: var(--ink); }
svg.figure text { font-family: inherit; }
.scroll { overflow-x: auto; }
.scroll > svg.figure { min-width: 620px; }
table { border-collapse: collapse; font-size: .94rem; }
.plain th, .plain td { text-align: left; vertical-align: top; padding: 6px 24px 6px 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.plain th { font-weight: 400; color: var(--soft); }
.scroll > .plain td, .scroll > .plain th[scope=col] { white-space: nowrap; }
.scroll > .plain th, .scroll > .plain td { overflow-wrap: normal; }
section > div + div { margin-top: 26px; }
.cells td, .cells th { padding: 2px; font-weight: 400; color: var(--soft); font-size: .8rem; text-align: center; }
.cells th[scope=row] { text-align: right; padding-right: 10px; white-space: nowrap; }
.cells tr.gap > * { padding-top: 14px; }
.cells { width: 100%; min-width: 680px; table-layout: fixed; }
.cells col.head { width: 96px; }
.cells img { width: 100%; max-width: none; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(74px, 1fr)); gap: 16px 12px; margin-top: 14px; }
.pairs figure { margin: 0; max-width: 128px; }
.pairs img { width: 100%; max-width: none; margin-bottom: 3px; }
.pairs figcaption { margin-top: 2px; font-size: .8rem; text-align: center; font-variant-numeric: tabular-nums; }
.crisp { image-rendering: pixelated; }
.grid { background: var(--gap); }
.sheet { background: white; border-radius: 4px; }
.cells img, .pairs img { outline: 1px solid var(--line); outline-offset: -1px; }
@media (max-width: 760px) and (max-resolution: 1.4dppx) { .grid.crisp { image-rendering: auto; } }
section details { margin-top: 24px; }
details { border-top: 1px solid var(--line); padding: 12px 0; }
details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; background: var(--wash); padding: 14px 16px; border-radius: 6px; font-size: .86rem;
  line-height: 1.5; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .92em; }
p code, li code { background: var(--wash); padding: 1px 5px; border-radius: 4px; overflow-wrap: anywhere; }
.next li { margin: 0 0 14px; }
footer { color: var(--soft); font-size: .85rem; margin-top: 48px; }
.ends { margin-top: 40px; }
@media (max-width: 600px) { main { padding: 24px 16px 40px; } h1 { font-size: 1.5rem; } h2 { margin-top: 44px; }
  .facts { gap: 12px 24px; } .scroll > .plain td, .scroll > .plain th { padding-right: 14px; }
  .scroll > .plain th[scope=col] { white-space: normal; }
  .scroll > .plain td { white-space: pre; } .scroll > .plain { font-size: .84rem; } }
@media print { :root { --paper: #fff; --ink: #000; --soft: #444; --line: #ccc; --wash: #f5f5f5; --gap: #ccc;
  --warn: #8a4b00; --warn-wash: #fff; } body { font-size: 11pt; } main { max-width: none; padding: 0; }
  h2 { margin-top: 28px; } h2, h3 { break-after: avoid; }
  .two { grid-template-columns: 1fr 1fr; gap: 20px; } .three { grid-template-columns: repeat(3, 1fr); gap: 16px; }
  .pairs { grid-template-columns: repeat(12, 1fr); gap: 8px; } .scroll { overflow: visible; }
  figure, tr, .facts, .pairs, .two > div { break-inside: avoid; }
  .scroll > .plain td { white-space: pre; }
  .cells, .scroll > svg.figure { min-width: 0; } .crisp, svg { print-color-adjust: exact; } }
"""

PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
"""
)
