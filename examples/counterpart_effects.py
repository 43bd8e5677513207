"""Print whether matched features of two SAEs have the same effect, by strength of the match.

python examples/counterpart_effects.py demo.atlas tiny-a-l1-s0 tiny-a-l1-s1
python examples/counterpart_effects.py stories.atlas FIRST SECOND --on LATER --contexts 200
"""

from __future__ import annotations

import argparse
import json

from analysis import EffectSettings, compare_counterpart_effects
from atlas.cli.output.tables import print_table


def main() -> None:
    """Run what the command line requests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("atlas")
    parser.add_argument("saes", nargs=2)
    parser.add_argument("--on", nargs="*", help="SAEs at later sites; all of the atlas by default")
    parser.add_argument("--contexts", type=int, default=96)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    settings = EffectSettings(contexts=args.contexts, occurrences=12)
    rows = compare_counterpart_effects(args.atlas, args.saes, on=args.on, settings=settings)
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
