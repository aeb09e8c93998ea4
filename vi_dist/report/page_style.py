"""The look of a report's page: one column, readable on paper and in the dark; colours come from `palette`."""

from __future__ import annotations

STYLE = """
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 54rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem }
h1 { font-size: 1.6rem; margin: 0 0 .2rem }
h1 small { font-weight: 400; color: var(--muted); font-size: 1rem }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem }
a { color: var(--series0) }
figure { margin: 0 }
svg { width: 100%; height: auto }
summary { cursor: pointer; color: var(--muted); margin: .5rem 0 }
pre { overflow-x: auto; font-size: .82rem; padding: .8rem; border: 1px solid var(--rule) }
.muted, .reading { color: var(--muted) }
.reading { margin: .2rem 0 .8rem; max-width: 48rem }
.good { --tone: var(--good) } .warn { --tone: var(--warn) } .bad { --tone: var(--bad) }
.verdict { border-left: 4px solid var(--tone); padding: .1rem 1rem; margin: 1.2rem 0;
  background: color-mix(in srgb, var(--tone) 8%, transparent) }
.verdict .word { font-size: 1.08rem; font-weight: 600 }
.verdict ul { margin: .4rem 0 .8rem; padding-left: 1.1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums }
th, td { padding: .22rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap }
th { color: var(--muted); font-weight: 500 }
.text { text-align: left }
@media print {
  body { background: #fff; font-size: 10pt }
  main { max-width: none; padding: 0 }
  figure, tr, .verdict { break-inside: avoid }
  h2, .reading { break-after: avoid }
}
"""
