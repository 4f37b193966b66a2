"""What a run found, for people and for machines: report.json, report.md, report.html, junit.xml, the terminal.

Only stored results are read here; nothing is run, fetched or judged again. Importing this costs nothing: templates and
libraries load when a report is written.
"""

from __future__ import annotations

from builder.report.assemble import build_report, findings, undiagnosed
from builder.report.check import check_report

__all__ = ["build_report", "check_report", "findings", "undiagnosed"]
