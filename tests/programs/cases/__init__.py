"""The command lines, as tables by subject."""

from __future__ import annotations

from tests.programs.cases.coreutils import CASES as COREUTILS
from tests.programs.cases.data_tools import CASES as DATA_TOOLS
from tests.programs.cases.languages import CASES as LANGUAGES
from tests.programs.cases.own import CASES as OWN
from tests.programs.cases.projects import CASES as PROJECTS
from tests.programs.cases.shells import CASES as SHELLS

CASES = (*COREUTILS, *SHELLS, *DATA_TOOLS, *LANGUAGES, *PROJECTS, *OWN)
