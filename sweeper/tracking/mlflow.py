"""MLflow, and the only file that imports it: a thread that makes MLflow show what the results on disk say.

`publish` notes in an outbox what MLflow should show, and returns; the thread sends what is missing. A server that is
away delays nothing and loses nothing: the outbox is sent when it is back, in this sweep or in a later one.
"""

import hashlib
import logging
import os
import shlex
import threading
import time
import urllib.parse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from sweeper.commands import program, without_passwords
from sweeper.report.thumbnails import sample_grid
from sweeper.results.types import COMPLETE, FAIL, PRUNED, RUNNING, Results
from sweeper.tracking.outbox import Outbox, Pending
from sweeper.tracking.runs import Item, items
from sweeper.tracking.view import literal, view_key

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STOPPED = "STOPPED"  # with its sweep, by whoever started that
STATUS = {COMPLETE: "FINISHED", FAIL: "FAILED", PRUNED: "KILLED", STOPPED: "KILLED"}
TAKEN_BACK = ("sweet_spot", "rerun", "reason", "vetoes", "checkpoint", "log")  # tags that a run may lose again
BATCH = 900  # metrics in one call; MLflow takes 1,000
AWAY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "UNAUTHENTICATED")
WAITS = (1, 2, 5, 10, 30)  # seconds between attempts while the tracker is away
KIND = {"mlflow.experimentKind": "custom_model_development"}  # MLflow's pages for trainings, not for chat
SETTINGS = {  # of MLflow: silent, no reports to its makers, no long retries as the outbox is our retry
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class Tracker:
    """Publishes sweeps to `uri`, or to sqlite in `folder`. Never raises, never waits except in `close`."""

    def __init__(self, uri: str | None, folder: Path, experiment: str) -> None:
        self.local = uri is None
        # SQLAlchemy decodes a percent sign in a path and ends it at a question mark.
        database = str(folder.absolute() / "mlflow.db").replace("%", "%25").replace("?", "%3F")
        self.uri = uri or f"sqlite:///{database}"
        self.folder = folder
        self.experiment = experiment
        name = hashlib.sha256(f"{self.uri} {experiment}".encode()).hexdigest()[:16]
        self.outbox = Outbox(folder / "tracking.db", name)
        self.trouble = ""  # why the last attempt failed
        self._running: dict[str, Item] = {}  # what was published last and has not ended
        self._sender: Sender | None = None  # made on first use
        self._lock = FileLock(folder / f".tracking-{name}.lock")
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self._stop()
        self.close()

    def _stop(self) -> None:
        """What has not ended was stopped; the same command goes on with it."""
        for item in self._running.values():
            item["state"] = item["tags"]["state"] = STOPPED
            item["ended"] = time.time()
        self.outbox.want(self._running)

    def publish(self, results: Results) -> None:
        """Has MLflow show `results` (finished or not); what it already shows is not sent again."""
        wanted = items(results)
        self._running = {key: item for key, item in wanted.items() if item["state"] == RUNNING}
        self.outbox.want(wanted)
        self._wake.set()

    def close(self, timeout: float = 600) -> str:
        """Waits until all is sent, or MLflow is found away, or `timeout` seconds. Says what was kept aside."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout)
        return self.status

    @property
    def status(self) -> str:
        """Empty when MLflow shows everything; else one line for the user."""
        lines = []
        pending = len(self.outbox.pending())
        if pending:
            trouble = self.trouble or "not sent yet"
            lines.append(f"{pending} runs are kept aside and sent with the next sweep: {trouble}")
        refused = self.outbox.refused()
        if refused:
            lines.append(f"{len(refused)} runs were refused by MLflow: {refused[0]}")
        return without_passwords("; ".join(lines))

    @property
    def command(self) -> str:
        """What opens MLflow: a command, or the address of the server."""
        if not self.uri.startswith("sqlite:"):
            return without_passwords(self.uri)
        # Without the variable MLflow starts eight processes for jobs, which we do not have, and leaves them behind.
        start = (
            f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false {shlex.quote(program('mlflow'))} ui --workers 1 --host 127.0.0.1"
        )
        return f"{start} --backend-store-uri {shlex.quote(self.uri)}"

    def link(self, sweep: str) -> str:
        """The page that compares the cells of a sweep, best first. With sqlite it is there while `command` runs."""
        address = without_passwords(self.uri).rstrip("/") if self.uri.startswith("http") else "http://127.0.0.1:5000"
        query = {"viewStateShareKey": view_key(sweep), "compareRunsMode": "CHART", "workflowType": "machine_learning"}
        return f"{address}/#/experiments/{self.outbox.fact('experiment') or 0}/runs?{urllib.parse.urlencode(query)}"

    def _work(self) -> None:
        """The thread: sends whatever there is to send. It ends when closing, once all is sent or MLflow is away."""
        attempt = 0
        while True:
            try:
                self._send_pending()
                self.trouble = ""
                attempt = 0
            except Exception as error:  # whatever it is, it must not end the sweep
                self.trouble = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                attempt += 1
                if self._sender:
                    self._sender.known.clear()  # what was sent last may have arrived without an answer
            if self._closing and (self.trouble or not self.outbox.pending()):
                return
            self._wake.wait(WAITS[min(attempt, len(WAITS)) - 1] if attempt else None)
            self._wake.clear()

    def _send_pending(self) -> None:
        for key in self.outbox.pending():
            with self._lock:  # another sweep in this folder may be sending the same
                item = self.outbox.item(key)
                if item:
                    self._connect().send(item)

    def _connect(self) -> "Sender":
        if self._sender:
            return self._sender
        os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        from mlflow import MlflowClient

        client = MlflowClient(self.uri, self.uri)
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            place = (self.folder.absolute() / "mlartifacts").as_uri() if self.local else None
            found = client.get_experiment(client.create_experiment(self.experiment, place, KIND))
        identity = f"{found.experiment_id} {found.creation_time}"
        if self.outbox.fact("identity") != identity:  # a new database under the same address
            self.outbox.forget()
            self.outbox.note("identity", identity)
        self.outbox.note("experiment", found.experiment_id)
        self._sender = Sender(client, found.experiment_id, self.outbox)
        return self._sender


@dataclass
class Sender:
    """Makes one run of MLflow after another what it should be."""

    client: "MlflowClient"
    experiment: str  # its id
    outbox: Outbox
    known: dict[str, dict[str, "Run"]] = field(default_factory=dict)  # by sweep, then by key: see `_known`

    def send(self, item: Pending) -> None:
        """Raises what the client raises while MLflow is away."""
        from mlflow.exceptions import MlflowException

        try:
            made = False
            if item.run is None:
                item, made = self._with_run(item)
                self.outbox.found(item)
            run = str(item.run)
            self._send_values(item, run, self._models(item, run, made))
            self._send_images(item, run, made)
            self._send_files(item, run)
            self._send_view(item)
            self._send_state(item, run)
            self.outbox.arrived(item)
        except MlflowException as error:
            if error.error_code in AWAY:
                raise
            self.outbox.refuse(item.key, str(error).splitlines()[0][:300])

    def _with_run(self, item: Pending) -> tuple[Pending, bool]:
        """The item with its run: one with this key that MLflow had, or (True) a new one."""
        run = self._known(item.wanted["tags"]["sweep"]).get(item.key)
        made = run is None
        if run is None:
            tags = item.wanted["tags"]
            run = self.client.create_run(self.experiment, item.created, tags, item.wanted["name"])
        tags = {name: value for name, value in run.data.tags.items() if name in TAKEN_BACK}
        sent = {**item.sent, "tags": {**tags, **item.sent.get("tags", {})}}
        # What is sent beside other values that are there is newer: MLflow refuses two values of one time.
        created = int(time.time() * 1000) if run.data.metrics else run.info.start_time
        return replace(item, run=run.info.run_id, created=created, sent=sent), made

    def _known(self, sweep: str) -> dict[str, "Run"]:
        """The runs that MLflow had of a sweep when we first asked, by key."""
        if sweep not in self.known:
            condition = f"tags.sweep = {literal(sweep)}"
            found: dict[str, Run] = {}
            token = None
            while True:
                page = self.client.search_runs([self.experiment], condition, max_results=1000, page_token=token)
                found |= {run.data.tags.get("key", ""): run for run in page}
                token = page.token
                if not page or not token:
                    break
            self.known[sweep] = found
        return self.known[sweep]

    def _models(self, item: Pending, run: str, made: bool) -> dict[int, str]:
        """The checkpoints of a training as MLflow's models, by step. Those that are missing are made."""
        wanted = item.wanted.get("models", [])
        if not wanted:
            return {}
        known = [] if made else self.client.search_logged_models([self.experiment], f"source_run_id = '{run}'")
        models = {int(model.tags["step"]): model.model_id for model in known}
        for step, name, path in wanted:
            if step not in models:
                tags = {"sweep": item.wanted["tags"]["sweep"], "step": str(step), "checkpoint": path}
                params = {**item.wanted["params"], "steps": str(step)}
                model = self.client.create_logged_model(self.experiment, name, run, tags, params)
                self.client.finalize_logged_model(model.model_id, "READY")
                models[step] = model.model_id
        return models

    def _send_values(self, item: Pending, run: str, models: dict[int, str]) -> None:
        """Sends parameters, tags and metrics that have not arrived. MLflow stores a point that is sent twice once."""
        from mlflow.entities import Metric, Param, RunTag

        wanted = item.wanted
        sent = item.sent
        params = [Param(k, v) for k, v in _new(wanted["params"], sent.get("params", {})).items()]
        tags = [RunTag(k, v) for k, v in _new(wanted["tags"], sent.get("tags", {})).items()]
        there = set(map(repr, sent.get("metrics", ())))  # NaN is unequal to itself
        metrics = [
            Metric(metric[0], metric[1], item.created + metric[3], metric[2], models.get(metric[2]))
            for metric in wanted["metrics"]
            if repr(metric) not in there
        ]
        self.client.log_batch(run, metrics[:BATCH], params, tags, synchronous=True)
        for start in range(BATCH, len(metrics), BATCH):
            self.client.log_batch(run, metrics[start : start + BATCH], synchronous=True)
        for gone in sent.get("tags", {}).keys() - wanted["tags"].keys():
            self.client.delete_tag(run, gone)

    def _send_view(self, item: Pending) -> None:
        """Only the run of the sweep has one."""
        view = item.wanted.get("view")
        if view != item.sent.get("view"):
            key = view_key(item.wanted["tags"]["sweep"])
            self.client.set_experiment_tag(self.experiment, f"mlflow.sharedViewState.{key}", view)

    def _send_images(self, item: Pending, run: str, made: bool) -> None:
        images = [image for image in item.wanted["images"] if image not in item.sent.get("images", ())]
        there = self._images(run) if images and not made else set()
        for key, step, folder in images:
            grid = None if (key, step) in there else sample_grid(Path(folder))
            if grid:
                self.client.log_image(run, grid, key=key, step=step, timestamp=item.created, synchronous=True)

    def _send_files(self, item: Pending, run: str) -> None:
        for path, content in item.wanted["files"]:
            if [path, content] not in item.sent.get("files", ()) and Path(path).exists():
                self.client.log_artifact(run, path)

    def _images(self, run: str) -> set[tuple[str, int]]:
        """Key and step of the images that arrived whole. MLflow writes their small copies (.webp) last."""
        names = [file.path.split("/")[-1] for file in self.client.list_artifacts(run, "images")]
        parts = [name.replace("%", "+").split("+") for name in names if name.endswith(".webp")]
        return {(part[0].replace("~", "/"), int(part[2])) for part in parts}

    def _send_state(self, item: Pending, run: str) -> None:
        if any(item.wanted[part] != item.sent.get(part) for part in ("state", "ended")):
            status = STATUS.get(item.wanted["state"])
            if status:
                ended = int(1000 * (item.wanted["ended"] or time.time()))
                self.client.set_terminated(run, status, ended)
            else:
                self.client.update_run(run, "RUNNING")
        if item.wanted["name"] != item.sent.get("name", item.wanted["name"]):
            self.client.update_run(run, name=item.wanted["name"])


def _new(wanted: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if sent.get(name) != value}
