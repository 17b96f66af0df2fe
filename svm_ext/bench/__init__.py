"""Benchmarks: what is measured (`cases`), against what (`baselines`), how (`measure`), and how it is told
(`report`).

`svm-ext bench` runs them for people, the suites in benchmarks/ run them under pytest-benchmark.

    case.py      Shape, Contender, Case      what one row of a table is made of
    cases/       one module an op: byte formula, FLOP formula, contenders, expected result
    baselines.py the same ops as users of torch write them
    refcheck.py  a row is measured only after all of its contenders gave the right result
    measure.py   contenders take turns within one process, so that a noisy neighbour hits all of them
    rows.py      a case in, a row of figures out
"""
