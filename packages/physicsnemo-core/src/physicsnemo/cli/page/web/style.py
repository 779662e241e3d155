# SPDX-License-Identifier: Apache-2.0
"""How the page looks: one style sheet, and the frame around it that fits telephones."""

STYLE = """
:host, body {
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-size: 15px; line-height: 1.45; color: #1d2733;
}
h1 { font-size: 1.5rem; margin: 0.4rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0.8rem 0 0.2rem; }
p { margin: 0.3rem 0; }
img { width: 100%; display: block; }
p.lead, p.numbers { color: #4d5966; }
p.numbers { font-size: 0.88rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; }
th { text-align: left; font-weight: 600; vertical-align: top; }
table.facts th { padding: 0.12rem 1rem 0.12rem 0; white-space: nowrap; font-weight: 400;
  color: #4d5966; }
table.facts td { overflow-wrap: anywhere; padding: 0.12rem 0; }
table.facts tr.problem td { color: #a02318; }
table.rows { font-size: 0.88rem; }
table.rows th, table.rows td { padding: 0.15rem 1rem 0.15rem 0; overflow-wrap: break-word;
  border-bottom: 1px solid #e3e7eb; vertical-align: top; }
table.rows td:nth-child(n+3) { white-space: nowrap; }
details { margin-top: 0.45rem; }
summary { cursor: pointer; }
div.scroll { max-height: 22rem; overflow: auto; margin-top: 0.3rem; }
div.message { padding: 0.55rem 0.8rem; border-left: 4px solid; overflow-wrap: anywhere;
  border-radius: 3px; }
div.message.error { border-color: #b3261e; background: #fcecea; }
div.message.good { border-color: #1a6f4b; background: #e8f4ee; }
@media (max-width: 560px) {
  table.facts th, table.facts td { display: block; padding-right: 0; }
  table.facts th { padding-bottom: 0; font-size: 0.85rem; }
  table.facts td { padding-top: 0; margin-bottom: 0.3rem; }
}
"""

FRAME = """
{% extends base %}
{% block postamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body { background: #fff; } .page { max-width: 1240px; margin: 0 auto; padding: 0 16px 48px; }
</style>
{% endblock %}
{% block contents %}<main class="page">{{ embed(roots.page) }}</main>{% endblock %}
"""
