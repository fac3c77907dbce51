import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from sweeper.engine.jobs import FAIL, Outcome
from sweeper.names import GRID, reserve_name
from sweeper.search.study import JOURNAL, PRUNERS, SAMPLERS, read_search_settings
from sweeper.store import NO_SPACE, claim
from tests.sweeper.search import fake
from tests.sweeper.search.fake import Cluster
from trainers.errors import SpecError

LR = "lr=interval(1e-7,1e-5)"


def told(trials):
    return [(t.params, t.values, t.state.name, t.intermediate_values) for t in trials]


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
def test_a_sampler_by_name_fills_the_trials(search, trials, sampler):
    code, results = search(LR, "prior_preservation=true,false", sampler=sampler, trials=10)
    assert code == 0
    assert [t.state for t in trials()] == [TrialState.COMPLETE] * 10
    tried = {t.params["lr"] for t in trials()}
    assert len(tried) > 6  # a child of NSGA-II may equal its parents
    assert {row.params["lr"] for row in results.rows} == {float(f"{lr:.3g}") for lr in tried}
    assert set(results.axes) == {"lr", "prior_preservation"}
    assert results.axes["lr"] == tuple(sorted(results.axes["lr"]))


def test_the_grid_sampler_tries_every_combination_once(search, trials):
    search("lr=1e-6,2e-6", "prior_preservation=true,false", sampler="grid", trials=20)
    tried = {tuple(t.params.items()) for t in trials()}
    assert len(trials()) == len(tried) == 4


def test_a_space_that_is_used_up_ends_the_search(search, trials):
    _, results = search("lr=1e-6,2e-6", sampler="random", trials=50)
    assert {t.params["lr"] for t in trials()} == {1e-6, 2e-6}
    assert len(trials()) < 50
    assert len(results.trainings) == 2


def test_the_value_of_a_trial_is_its_best_checkpoint(search, trials, tmp_path):
    _, results = search(LR, "scheduler=ddim,pndm", trials=3)
    for trial, training in zip(trials(), results.trainings, strict=True):
        rows = [row for row in results.rows if row.training == training.signature]
        assert {row.params["steps"] for row in rows} == {100, 200, 300, 400}
        assert trial.value == pytest.approx(max(row.metrics["score"] for row in rows), abs=0.02)
        assert trial.value == max(trial.intermediate_values.values())
        assert list(trial.intermediate_values) == [100, 200, 300, 400]
        assert sorted(trial.intermediate_values.values()) == list(trial.intermediate_values.values())
        assert trial.user_attrs["score"] == trial.value
        assert trial.user_attrs["training"] == training.signature


def test_a_vetoed_checkpoint_is_worth_nothing(search, trials):
    search(LR, trials=2, cluster=Cluster(copies=lambda spec, step: step > 100))
    for trial in trials():
        scores = {rung["step"]: rung["score"] for rung in trial.user_attrs["checkpoints"]}
        assert [scores[step] for step in (200, 300, 400)] == [0, 0, 0]
        assert trial.value == scores[100] > 0


def test_tpe_comes_near_the_best_there_is(search, trials):
    search("lr=interval(1e-8,1e-3)", trials=20)
    values = [t.value for t in trials()]
    doses = np.linspace(0.01, 4, 400)
    s, t = 1 - np.exp(-2 * doses), 1 / (1 + (doses / 2) ** 3)
    assert max(values) > 0.95 * (2 * s * t / (s + t)).max()
    assert np.median(values[10:]) > 1.5 * np.median(values[:10])  # the first ten are random


@pytest.mark.parametrize("objective", ["score", "both"])
@pytest.mark.parametrize("pruner", ["halving", "median"])
def test_what_is_killed_goes_on_as_it_would_have(search, trials, pruner, objective):
    options = {"pruner": pruner, "objective": objective, "trials": 9}
    _, whole = search(LR, folder="whole", **options)
    for stops_after in (5, 9):
        with pytest.raises(KeyboardInterrupt):
            search(LR, folder="killed", cluster=Cluster(stops_after=stops_after), **options)
    assert trials("killed")[-1].state == TrialState.RUNNING
    _, resumed = search(LR, folder="killed", **options)
    assert told(trials("killed")) == told(trials("whole"))
    assert [(r.params, r.state, r.metrics) for r in resumed.rows] == [
        (r.params, r.state, r.metrics) for r in whole.rows
    ]
    assert repr(resumed.sweet_spot) == repr(whole.sweet_spot)  # NaN is unequal to itself


@pytest.mark.parametrize("objective", ["score", "both"])
def test_what_is_killed_while_it_asks_loses_no_trial(search, trials, tmp_path, objective):
    """A trial has its number before it has its parameters."""
    grid = ("lr=1e-6,2e-6", "prior_preservation=true,false")
    search(*grid, sampler="grid", folder="whole", objective=objective)
    search(*grid, sampler="grid", folder="killed", objective=objective, trials=2)
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "killed" / "search" / JOURNAL))
    optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(journal)).ask()
    search(*grid, sampler="grid", folder="killed", objective=objective)
    assert told(trials("killed")) == told(trials("whole"))


def test_the_same_command_goes_on_and_does_nothing_twice(search, trials):
    first, second = Cluster(), Cluster()
    search(LR, trials=3, cluster=first)
    search(LR, trials=5, cluster=second)
    assert len(trials()) == 5
    assert len({lr for lr, _ in first.events + second.events}) == 5
    assert len(first.events + second.events) == 5 * 4


@pytest.mark.parametrize("objective", ["score", "both"])
@pytest.mark.parametrize("pruner", [name for name in PRUNERS if name != "none"])
def test_a_pruner_by_name_ends_trainings_at_checkpoints(search, trials, pruner, objective):
    cluster = Cluster()
    code, results = search("lr=interval(1e-8,1e-5)", pruner=pruner, objective=objective, trials=16, cluster=cluster)
    pruned = [t for t in trials() if t.state == TrialState.PRUNED]
    assert code == 0
    assert pruned
    assert any(t.state == TrialState.COMPLETE for t in trials())
    assert len(cluster.events) < 16 * 4
    by_signature = {training.signature: training for training in results.trainings}
    for trial in pruned:
        last = trial.user_attrs["checkpoints"][-1]["step"]
        assert last < 400
        training = by_signature[trial.user_attrs["training"]]
        assert training.state == "PRUNED"
        assert training.reason == trial.user_attrs["reason"]
        assert f"{pruner} at step {last}" in training.reason
        (cell,) = (row for row in results.rows if row.training == training.signature and row.asked)
        assert (cell.state, cell.reason) == ("PRUNED", training.reason)


def test_only_the_best_checkpoint_is_kept_of_all_trials_pruned_or_not(search, trials, tmp_path):
    _, results = search("lr=interval(1e-8,1e-5)", pruner="median", trials=16, keep="best")
    assert TrialState.PRUNED in {t.state for t in trials()}
    best = results.rows[results.best]
    folders = [path.parent for path in (tmp_path / "out" / "store").glob("trainings/*/checkpoints/*/manifest.json")]
    assert [(f.parents[1].name, int(f.name)) for f in folders] == [(best.training, best.step)]
    assert [row.checkpoint for row in results.rows if row.checkpoint] == folders


def test_two_objectives_keep_their_front(search, tmp_path):
    _, results = search(LR, objective="both", trials=10)
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "out" / "search" / JOURNAL))
    study = optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(journal))
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MAXIMIZE"]
    for trial in study.trials:
        assert trial.values == [trial.user_attrs["s"], trial.user_attrs["t"]]
        assert trial.user_attrs["score"] == max(c["score"] for c in trial.user_attrs["checkpoints"])
    front = sorted(t.values for t in study.best_trials)
    assert len(front) > 1
    assert [t for _, t in front] == sorted((t for _, t in front), reverse=True)
    assert results.sweet_spot.pareto


def test_overfitting_ends_a_training_but_not_its_worth(search, trials):
    cluster = Cluster()
    _, results = search(
        LR, "lr=2e-6,1e-7", "evaluation=paper", sampler="grid", early_stop="overfit", trials=2, cluster=cluster
    )
    by_lr = {t.params["lr"]: t for t in trials()}
    assert by_lr[2e-6].state == by_lr[1e-7].state == TrialState.COMPLETE
    assert "overfitting began at step" in by_lr[2e-6].user_attrs["reason"]
    assert by_lr[1e-7].user_attrs["reason"] == ""
    steps = [step for lr, step in cluster.events if lr == 2e-6]
    assert max(steps) < 400
    assert by_lr[2e-6].value == max(c["score"] for c in by_lr[2e-6].user_attrs["checkpoints"])
    states = {row.params["lr"]: row.state for row in results.rows if row.asked}
    assert states == {2e-6: "PRUNED", 1e-7: "COMPLETE"}


def test_several_workers_share_the_trials(search, trials):
    cluster = Cluster(workers=3)
    search(LR, trials=8, cluster=cluster, pruner="median")
    assert cluster.most == 3
    assert len(trials()) == 8
    assert all(t.state.is_finished() for t in trials())


def test_trials_of_one_training_share_its_job(search, trials):
    cluster = Cluster(workers=4)
    _, results = search("lr=1e-6,2e-6", trials=6, cluster=cluster)
    assert len(cluster.events) == 2 * 4
    assert all(t.state == TrialState.COMPLETE for t in trials())
    assert [row.state for row in results.rows] == ["COMPLETE"] * 8


def test_a_failed_trial_is_said_and_the_others_go_on(search, trials):
    code, results = search("lr=1e-6,2e-6,5e-6", sampler="grid", cluster=Cluster(fails=lambda spec: spec.lr == 2e-6))
    assert code == 1
    states = {t.params["lr"]: t.state.name for t in trials()}
    assert states == {1e-6: "COMPLETE", 2e-6: "FAIL", 5e-6: "COMPLETE"}
    (failed,) = (row for row in results.rows if row.state == "FAIL")
    assert (failed.params["lr"], failed.reason) == (2e-6, "loss is nan")
    code, results = search("lr=1e-6,2e-6,5e-6", sampler="grid")
    assert code == 1
    assert [row.reason for row in results.rows if row.state == "FAIL"] == ["loss is nan"]


KILLED = Outcome(FAIL, "tried 3 times: the process ended with code -9; see LOG", again=True)
FULL = Outcome(FAIL, NO_SPACE, again=True)


def test_what_a_fault_of_the_machine_took_is_tried_again_by_the_same_command(search, trials, capsys):
    undisturbed = Cluster()
    search(LR, trials=4, folder="whole", cluster=undisturbed)
    whole = told(trials("whole"))
    lost = undisturbed.events[4][0]  # of the second trial; each has four checkpoints
    code, results = search(LR, trials=4, cluster=Cluster(fails=lambda spec: KILLED if spec.lr == lost else None))
    assert code == 1
    assert [row.reason for row in results.rows if row.state == "FAIL"] == [KILLED.reason]
    assert [t.state.name for t in trials()] == ["COMPLETE", "RUNNING", "COMPLETE", "COMPLETE"]
    printed = capsys.readouterr().out
    assert "trial 1  the same command tries it again" in printed
    assert "3 COMPLETE, 1 to be tried again by the same command" in printed
    again = Cluster()
    code, _ = search(LR, trials=4, cluster=again)
    assert code == 0
    assert {lr for lr, _ in again.events} == {lost}
    assert told(trials()) == whole


def test_where_no_trial_can_run_no_others_are_begun(search, trials):
    """They would learn nothing from one another."""
    search(LR, trials=5, folder="whole")
    code, _ = search(LR, trials=5, cluster=Cluster(fails=lambda spec: FULL))
    assert code == 1
    assert [t.state.name for t in trials()] == ["RUNNING"] * 2
    code, _ = search(LR, trials=5)
    assert code == 0
    assert told(trials()) == told(trials("whole"))


def test_a_combination_that_no_training_can_have_fails_alone(search, trials):
    search("use_8bit_adam=false,true", "trainer.optimizer=adamw,prodigy", sampler="grid", trials=4)
    states = sorted(t.state.name for t in trials())
    assert states == ["COMPLETE", "COMPLETE", "COMPLETE", "FAIL"]
    assert "prodigy" in next(t.user_attrs["reason"] for t in trials() if t.state == TrialState.FAIL)


def test_what_cannot_be_judged_ends_the_search(search, trials):
    subject_only = Cluster(subject=lambda spec, step: 0.5, prompts=lambda spec, step: 0.5)
    baselines = fake.synthetic.baselines
    try:
        fake.synthetic.baselines = lambda **shape: baselines(tc=0.5, **shape)
        _, results = search(LR, trials=5, cluster=subject_only)
        again = Cluster()
        search(LR, trials=5, cluster=again)
    finally:
        fake.synthetic.baselines = baselines
    assert not again.events  # the same command trains no other trial for the same answer
    assert [t.state.name for t in trials()] == ["FAIL"]
    assert results.sweet_spot.verdict == "refused"
    assert trials()[0].user_attrs["reason"] == results.sweet_spot.reason


def test_a_journal_cut_off_in_a_line_is_mended(search, trials, tmp_path):
    search(LR, trials=2)
    with open(tmp_path / "out" / "search" / JOURNAL, "a") as file:
        file.write('{"op_code":')
    search(LR, trials=3)
    assert len(trials()) == 3


def test_a_database_holds_the_study(search, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    search(LR, trials=3, storage=url)
    search(LR, trials=4, storage=url)
    assert len(optuna.load_study(study_name="search", storage=url).trials) == 4


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all/study.db", "mysql://u@localhost/x"])
def test_a_storage_that_cannot_be_opened_is_one_clear_line(search, url):
    with pytest.raises(SpecError, match="hydra.sweeper.storage="):
        search(LR, storage=url)


def test_one_process_at_a_search(search, tmp_path):
    with claim(tmp_path / "out" / "search" / "search"), pytest.raises(SpecError, match="another process"):
        search(LR)


def test_another_search_does_not_go_on_with_this_one(search):
    search(LR, trials=1)
    with pytest.raises(SpecError, match="take another name"):
        search("lr=interval(1e-7,2e-5)", trials=2)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("sampler", "tpee", "must be one of tpe, nsga2, gp, random, grid"),
        ("pruner", "wilcoxon", "must be one of none, halving, hyperband, median"),
        ("objective", "s", "must be one of score, both"),
        ("trials", 0, "a whole number, 1 or more"),
        ("sampler", "grid", "give lists instead of intervals"),
    ],
)
def test_bad_settings_are_one_clear_line(space, name, value, said):
    with pytest.raises(SpecError, match=said):
        read_search_settings(fake.SETTINGS | {name: value}, space(LR))


def test_the_folder_is_shown_as_it_is(search, tmp_path, capsys):
    search(LR, trials=1, folder="cat[x]")
    assert f"folder            {tmp_path}/cat[x]/search" in capsys.readouterr().out


def test_a_search_does_not_take_the_folder_of_a_grid(search, tmp_path):
    reserve_name(tmp_path / "out" / "search", GRID, ["a cell"])
    with pytest.raises(SpecError, match="name=search: another sweep is kept there; take another name"):
        search("lr=interval(1e-7,1e-5)")
    assert not (tmp_path / "out" / "search" / JOURNAL).exists()


def test_an_output_folder_that_cannot_be_written_is_one_clear_line(search, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="output_dir=.*file: cannot be written"):
        search(LR, folder="file")
