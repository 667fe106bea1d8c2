import pytest
from gfm_pretrain.monitor.growing import GrowingMetrics
from gfm_pretrain.monitor.metrics_file import MetricsFile, as_line
from gfm_pretrain.monitor.overview import overview
from gfm_pretrain.monitor.records import event_record, run_record
from made_up_run import made_up_facts, made_up_records, made_up_world, write_metrics


def test_what_was_added_is_read_and_what_is_being_written_waits(tmp_path):
    records = made_up_records("water")
    run = write_metrics(tmp_path, records[:3])
    metrics = GrowingMetrics(run)
    assert metrics.read().step == 1
    line = as_line(records[3])
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(line[:20])
        file.flush()
        assert metrics.read().step == 1
        file.write(line[20:])
    assert metrics.read().step == 2


def test_a_run_that_goes_on_from_a_snapshot_is_read_anew(tmp_path):
    records = made_up_records("water", n_steps=4, total_steps=9)
    run = write_metrics(tmp_path, records)
    metrics = GrowingMetrics(run)
    losses = {metrics.read().loss_of("water")}
    file = MetricsFile(run, complain=pytest.fail)
    file.rewind(1, visit=lambda _: None)
    facts = made_up_facts("water", total_steps=9)
    file.append(run_record(facts, made_up_world(), step=1, run_id="0123abcd"))
    for record in records[3:]:
        file.append({**record, "losses": {"water": 7.0}})
    file.close()
    state = metrics.read()
    assert state.starts == [0, 1]
    assert state.step == 4
    assert state.loss_of("water") == pytest.approx((1.0 + 3 * 7.0) / 4)
    assert losses != {state.loss_of("water")}


def test_a_folder_without_metrics_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no metrics\.jsonl: it is not a run"):
        GrowingMetrics(tmp_path)


def said_of(run, *records, silent: float = 0.0, snapshot: int | None = None) -> str:
    write_metrics(run, records)
    state = GrowingMetrics(run).read()
    return overview(state, run, snapshot=snapshot, last_written=1000.0, now=1000.0 + silent)


def test_a_run_at_a_glance(tmp_path):
    records = made_up_records("water", ranks=4)
    assert said_of(tmp_path) == f"{tmp_path}: nothing was computed yet"
    first, second = said_of(tmp_path, *records, silent=7.0).splitlines()
    assert first == f"{tmp_path}: running, last line 0:07 ago; no snapshot yet"
    assert " on 4 ranks (single, cpu, " in second
    assert "1:00:00 ago; it may have been killed" in said_of(tmp_path, *records, silent=3600.0)
    failed = event_record("failed", 3, {"reason": "TrainingError: absurd"})
    said = said_of(tmp_path, *records, failed, silent=3600.0, snapshot=3)
    assert f"{tmp_path}: failed at step 3, " in said
    assert said.splitlines()[0].endswith(": TrainingError: absurd; snapshot at step 3")
    again = {**records[0], "step": 3}
    said = said_of(tmp_path, *records, failed, again, silent=1.0)
    assert "running" in said
    assert said.endswith(", continued 1 time")
    finished = event_record("finished", 5, {"checkpoint": "x"})
    assert "finished at step 5" in said_of(tmp_path, *records, finished, silent=9e5)
