#!/usr/bin/env bash
# matplotlib: how a PDF embeds its fonts depends on the setting for PostScript, "ps.fonttype".
#
# "pdf.fonttype" says in which form fonts are embedded: 3, drawings of up to 256 characters, or 42, TrueType of up to 65536.
# The writer of PDF takes the form from there, but how many characters one font may have from "ps.fonttype". So:
#   42 for PDF alone: every character behind the first 256, as the minus sign of all axes, goes to a second font. The file is
#   larger by half and fonts are cut down twice, which is most of the time of a small figure.
#   42 for PostScript alone: such a character raises ValueError from within.
# The remedy: set both to the same number. Source: `PdfFile.__init__` in matplotlib/backends/backend_pdf.py.
#
# Seen with matplotlib 3.11.2, CPython 3.11, Linux x86_64:
#   pdf.fonttype 42, ps.fonttype 42: 1 font
#   pdf.fonttype 42, ps.fonttype 3: 2 fonts
#   pdf.fonttype 3, ps.fonttype 3: 2 fonts
#   pdf.fonttype 3, ps.fonttype 42: ValueError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check matplotlib==3.11.2 numpy==2.3.5
cat > "$work/look.py" <<'P'
import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

for pdf, ps in ((42, 42), (42, 3), (3, 3), (3, 42)):
    with mpl.rc_context({"pdf.fonttype": pdf, "ps.fonttype": ps}):
        figure, file = Figure(), io.BytesIO()
        figure.subplots().plot([-1, 1], [-1, 1])
        try:
            figure.savefig(file, format="pdf")
            number = len(set(re.findall(rb"/FontName /(\S+)", file.getvalue())))
            found = f"{number} font" + "s" * (number > 1)
        except ValueError as error:
            found = type(error).__name__
        print(f"pdf.fonttype {pdf}, ps.fonttype {ps}: {found}")
P
cd "$work"
said=$(MPLCONFIGDIR="$work" "$work/venv/bin/python" look.py)
echo "$said"
test "$said" = "pdf.fonttype 42, ps.fonttype 42: 1 font
pdf.fonttype 42, ps.fonttype 3: 2 fonts
pdf.fonttype 3, ps.fonttype 3: 2 fonts
pdf.fonttype 3, ps.fonttype 42: ValueError"
echo "as recorded"
