"""Hypothesis strategies for the values that the pipeline hands on."""

from __future__ import annotations

import sys

from hypothesis import settings
from hypothesis import strategies as st

from mlflow_repro.values.comparison import Comparison, Finding, JudgedPair, Status
from mlflow_repro.values.plan import EnvironmentPlan, LaunchPlan, Source
from mlflow_repro.values.report import Cause, Report
from mlflow_repro.values.rules import Rules, ToleranceRule, Tolerances
from mlflow_repro.values.run import Run

# No deadline for one example: the machine that runs the tests may be busy. 60 examples a law, not 100: seconds.
settings.register_profile("mlflow-repro", deadline=None, max_examples=60)
settings.load_profile("mlflow-repro")

EDGE_NUMBERS = (
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    2.2250738585072014e-308,
    1.0,
    1.0 + 2**-52,
    2.0**53 + 2,
    0.10000000149011612,
    sys.float_info.max,
    -sys.float_info.max,
    float("inf"),
    float("-inf"),
    float("nan"),
)

names = st.text(min_size=1, max_size=8) | st.sampled_from(("loss", "val/loss", "system/cpu", "fit_time"))
texts = st.text(max_size=12)
numbers = st.sampled_from(EDGE_NUMBERS) | st.floats()
metric_maps = st.dictionaries(names, numbers, max_size=5)
text_maps = st.dictionaries(names, texts, max_size=4)
tolerance_values = st.sampled_from((0.0, 1e-12, 1e-9, 0.5, 1.0)) | st.floats(min_value=0, max_value=10)
tolerances = st.builds(
    Tolerances, rel_tol=tolerance_values, abs_tol=tolerance_values, ulp=st.integers(min_value=0, max_value=100)
)
patterns = st.sampled_from(("*", "l*", "?*", "val/*", "fit_time", "[!a]*", "loss"))
pattern_tuples = st.lists(patterns, max_size=2).map(tuple)
rule_sets = st.builds(
    Rules,
    default=tolerances,
    tolerances=st.lists(st.builds(ToleranceRule, pattern=patterns, tolerances=tolerances), max_size=2).map(tuple),
    only=pattern_tuples,
    judge=pattern_tuples,
    origin=texts,
)

run_records = st.builds(
    Run,
    run_id=texts,
    run_name=texts,
    experiment_id=texts,
    experiment_name=texts,
    status=st.sampled_from(("FINISHED", "FAILED", "RUNNING")),
    lifecycle_stage=st.sampled_from(("active", "deleted")),
    start_time=st.integers(min_value=0, max_value=2**53),
    end_time=st.integers(min_value=0, max_value=2**53),
    artifact_uri=texts,
    params=text_maps,
    metrics=metric_maps,
    tags=text_maps,
)
sources = st.builds(Source, uri=texts, commit=texts, subdirectory=texts)
environment_plans = st.builds(
    EnvironmentPlan, kind=texts, reason=texts, python=texts, packages=st.integers(0, 999), locks=text_maps
)
launch_plans = st.builds(
    LaunchPlan,
    reference_run_id=texts,
    source=sources,
    entry_point=texts,
    parameters=text_maps,
    only_declared=st.booleans(),
    command=st.lists(texts, max_size=3).map(tuple),
    working_directory=texts,
    experiment_name=texts,
    tracking_uri=texts,
    backend=texts,
    backend_config=texts,
    env_manager=texts,
    environment=environment_plans,
    variables=st.dictionaries(names, st.none() | texts, max_size=2),
    restores=st.lists(texts, max_size=2).map(tuple),
    caveats=st.lists(texts, max_size=2).map(tuple),
)
statuses = st.sampled_from(list(Status))
metric_findings = st.builds(
    Finding,
    kind=st.just("metric"),
    name=names,
    reference=st.none() | numbers,
    reproduction=st.none() | numbers,
    status=statuses,
    note=texts,
)
history_findings = st.builds(
    Finding,
    kind=st.just("history"),
    name=names,
    reference=st.none() | numbers,
    reproduction=st.none() | numbers,
    status=statuses,
    note=texts,
    details=st.fixed_dictionaries(
        {},
        optional={
            "points": st.integers(0, 9),
            "max_relative": st.floats(0, 2),
            "growth": texts,
            "first_different_step": st.integers(-(2**63), 2**63 - 1),
        },
    ),
)
param_findings = st.builds(
    Finding,
    kind=st.just("param"),
    name=names,
    reference=st.none() | texts | st.just("NaN"),
    reproduction=st.none() | texts | st.just("1e-3"),
    status=statuses,
    note=texts,
)
artifact_findings = st.builds(
    Finding,
    kind=st.just("artifact"),
    name=names,
    reference=st.none() | st.just("3 bytes, sha256 00"),
    reproduction=st.none() | st.just("4 bytes, sha256 01"),
    status=statuses,
    note=texts,
)
other_findings = st.builds(
    Finding,
    kind=st.sampled_from(("prediction", "status", "code", "machine", "rule", "run")),
    name=names,
    reference=st.none() | texts,
    reproduction=st.none() | texts,
    status=statuses,
    note=texts,
)
comparisons = st.builds(
    Comparison,
    reference_run_id=texts,
    reproduction_run_id=texts,
    findings=st.lists(
        metric_findings | history_findings | param_findings | artifact_findings | other_findings, max_size=4
    ).map(tuple),
    rules=rule_sets,
)
causes = st.builds(
    Cause,
    kind=texts,
    what=texts,
    confidence=st.floats(0, 1),
    evidence=st.lists(texts, max_size=3).map(tuple),
    fix=texts,
)

judged_pairs = st.builds(
    JudgedPair,
    name=texts,
    reference_run_id=texts,
    reproduction_run_id=texts,
    status=statuses,
    note=texts,
    comparison=st.none() | comparisons,
)
reports = st.builds(
    Report,
    plan=launch_plans,
    reference=run_records,
    reproduction=st.none() | run_records,
    comparison=st.none() | comparisons,
    causes=st.lists(causes, max_size=3).map(tuple),
    children=st.lists(judged_pairs, max_size=2).map(tuple),
)
