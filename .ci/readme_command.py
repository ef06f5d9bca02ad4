"""Print the n-th shell block of README.md, the text a user copies."""

import re
import sys
from pathlib import Path

text = Path(__file__).parent.parent.joinpath("README.md").read_text()
print(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)[int(sys.argv[1]) - 1])
