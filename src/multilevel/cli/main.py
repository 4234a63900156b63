"""``multilevel``: fit, describe, demo and warmup from the command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence

from multilevel.cli.arguments import build_parser
from multilevel.cli.outcome import outcome_options
from multilevel.cli.terminal import waiting, write_error, write_note, write_result
from multilevel.errors import (
    DataWarning,
    MultilevelError,
    MultilevelWarning,
)

DONE, NOT_TRUSTED, BAD_INPUT = 0, 1, 2
_INTERRUPTED, _BROKEN_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    Parameters
    ----------
    argv : the arguments after the program's name; ``sys.argv[1:]`` if not given.

    Returns
    -------
    0 done, 1 a fit that is not to be trusted, 2 input that cannot be used; 130 interrupted and
    141 when the reader of standard output has gone, as shells do.
    """
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        # argparse has written help, version or usage; a function returns its code
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return BAD_INPUT
    try:
        code = _COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except MultilevelError as error:
        write_error(error)
        return BAD_INPUT
    except KeyboardInterrupt:
        write_note("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return code


def _fit(arguments: argparse.Namespace) -> int:
    with waiting("Loading"):
        from multilevel.api.fit import fit
        from multilevel.design.blocks import NOT_CERTIFIED
        from multilevel.report.write import check_report_path
        from multilevel.tables.read import read
    if arguments.report is not None:
        # Before the work: a name that cannot be written should not cost a fit.
        check_report_path(arguments.report)
    with waiting(f"Reading {arguments.data}"):
        data = read(arguments.data)
    with warnings.catch_warnings(record=True) as caught, waiting("Fitting"):
        warnings.simplefilter("always", MultilevelWarning)
        result = fit(
            arguments.formula,
            data,
            method=arguments.method,
            weights=arguments.weights,
            rank_deficient=arguments.rank_deficient,
            engine=arguments.engine,
            residual=arguments.residual,
            scale=arguments.scale,
            **outcome_options(arguments),
            # numbers are printed either way; the exit code says that they are not to be trusted
            allow=(*arguments.allow, NOT_CERTIFIED),
        )
    certificate = result.fit.certificate
    if arguments.json:
        # The text summary says the same in its own place.
        _write_data_warnings(caught)
        write_result(json.dumps(result.to_dict(df=arguments.df), indent=2, allow_nan=False))
    else:
        write_result(result.summary(verbose=arguments.verbose, df=arguments.df))
    if arguments.report is not None:
        with waiting("Drawing and writing the report"):
            written = result.report(arguments.report, df=arguments.df)
        write_note(f"report written to {written}")
    if certificate.is_certified:
        return DONE
    write_note(f"not to be trusted: {certificate.sentence}")
    return NOT_TRUSTED


def _write_data_warnings(caught: Sequence[warnings.WarningMessage]) -> None:
    for warning in caught:
        if issubclass(warning.category, DataWarning):
            write_note(f"note: {warning.message}")


def _describe(arguments: argparse.Namespace) -> int:
    with waiting(f"Reading {arguments.data}"):
        from multilevel.report.describe import describe_json, describe_text
        from multilevel.tables.describe import describe_design
        from multilevel.tables.read import read

        data = read(arguments.data)
        found = describe_design(data, arguments.outcome, arguments.clusters)
    if arguments.json:
        write_result(json.dumps(describe_json(found), indent=2, allow_nan=False))
    else:
        write_result(describe_text(found))
    return DONE


def _demo(_arguments: argparse.Namespace) -> int:
    from multilevel.cli.demo import steps

    for text in steps(waiting):
        write_result(text + "\n")
        sys.stdout.flush()
    return DONE


def _warmup(_arguments: argparse.Namespace) -> int:
    from multilevel.cli.warmup import warm_up

    with waiting("Compiling the numeric kernels"):
        times = warm_up()
    width = max(len(kind) for kind, _ in times)
    lines = [f"{kind.ljust(width)}  {seconds:6.2f} s" for kind, seconds in times]
    write_result("\n".join(["Kernels are ready.", *(f"  {line}" for line in lines)]))
    return DONE


_COMMANDS = {"fit": _fit, "describe": _describe, "demo": _demo, "warmup": _warmup}
