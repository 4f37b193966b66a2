"""A suite of small models through an engine library, in few processes and yet one by one: job `conform`.

    conform job ── child: case, case, case ...          (dies, or hangs: the next child goes on behind that case)
                └─ child: one case again, alone

A child tells what it begins and what came of it in memory shared with its parent. When it dies or takes too long, the
case that it was in is run again in a child of its own, unless it was the first of its process anyway: only what happens
there is that case's doing. A case that dies only behind others is run behind ever fewer of them until one is left that
makes it die: that one poisoned the process, and is blamed.

A broken process can also give wrong numbers or refuse what is right. So what failed is run once more, in a fresh process
and in the opposite order, and some of the wrong numbers (all, where any of these comes out otherwise) are computed again
alone; where two runs disagree, a run alone decides.

This process never uses the library itself: a session or a device context must not be forked.
"""

import json
import mmap
import os
import resource
import select
import signal
import struct
import sys
import time
import traceback

from worker import conform_compare, conform_data, conform_engines, jobs, leader, processes

#: Characters of a message that are kept: what a diagnosis reads is at its beginning.
MESSAGE = 1200
#: Cases with wrong numbers that are computed again alone, to see whether any does.
PROBES = 2
#: Characters of a text that a child tells its parent, places of this machine included.
CLIP = 2000
#: Bytes of what a dying child said.
LAST = 2000
#: Statuses that are asked about twice.
DOUBTED = ("failed", "mismatch", "memory")
#: Bytes of memory at which a child makes way for a new one: OpenVINO 2023.0 keeps some 10 MiB of every model.
RECYCLE = 1 << 30


def conform(job):
    """See README.md. Raises BadInput for a file of cases that is none, or that lacks a case asked for."""
    try:
        cases = conform_data.Cases(job.input["cases"])
    except conform_data.BadCases as error:
        raise jobs.BadInput(str(error))
    absent = [name for name in job.input["names"] if name not in cases.cases]
    if absent:
        raise jobs.BadInput("%d cases are not in the file: %s" % (len(absent), ", ".join(absent[:3])))
    with job.stage("run"):
        suite = Suite(job, cases)
        suite.everything(list(job.input["names"]))
        suite.doubts()
        known = {}
        for result in suite.results.values():
            _without_places(result, job, known)
    return {"cases": suite.results, "children": suite.children}


class Suite:
    """`results`: case -> {"status": "match" | "mismatch" | "failed" | "crashed" | "timeout" | "memory" | "built" |
    "harness" | "left", "stage", "seconds"} and, as they apply, "reason", "max_abs", "error": {"type", "message"},
    "end" (as the worker's), "note", "flaky": true."""

    def __init__(self, job, cases):
        self.job, self.cases = job, cases
        self.limit = float(job.input["limit"])
        self.deadline = time.monotonic() + float(job.input["budget"])
        self.results = {}
        self.children = 0
        self.wake = processes.wake_on_child()

    def everything(self, todo):
        while todo:
            found, stopped = self.child(todo)
            self.results.update(found)
            if stopped is None:
                break
            case, end, before = stopped
            if before:
                self.again(before, case, end)
            else:
                self.results[case] = end
            todo = todo[todo.index(case) + 1 :]

    def again(self, before, case, end):
        """A case that died (or hung) behind others, alone. Where it does so there too, it is its own doing."""
        found, stopped = self.child([case])
        if stopped is not None:
            self.results[case] = stopped[1]
            return
        self.results.update(found)
        how = "in a process that had run %d other cases it %s; alone it does not" % (len(before), _how(end))
        self.results[case].update(flaky=True, note=how)
        if end["status"] != "crashed":
            return
        culprit = self.culprit(before, case)
        if culprit is None:
            return
        self.results[case]["note"] += "; the process was broken by %s" % culprit
        alone = self.results[culprit]
        self.results[culprit] = dict(
            end, stage=alone["stage"], seconds=alone["seconds"],
            note="it breaks its process: %s, run behind it, %s, and alone it does not (by itself this case ended as %s)"
            % (case, _how(end), alone["status"]),
        )  # fmt: skip

    def culprit(self, before, case):
        """The one case behind which `case` dies, twice; None when there is no single one, or it does not happen again."""
        low, high = 0, len(before)  # dies behind before[low:], lives behind before[high:]
        if not self.dies(before, case):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.dies(before[middle:], case) else (low, middle)
        return before[low] if self.dies([before[low]], case) and self.dies([before[low]], case) else None

    def dies(self, before, case):
        _, stopped = self.child(list(before) + [case])
        return stopped is not None and stopped[0] == case and stopped[1]["status"] == "crashed"

    def doubts(self):
        """Failures once more, in the opposite order; wrong numbers alone, all of them or PROBES."""
        wrong = [case for case, result in self.results.items() if result["status"] == "mismatch"]
        probes = wrong[:: max(1, -(-len(wrong) // PROBES))]
        note = "among other cases it ended as mismatch; this is how it ends alone"
        others = [case for case in probes if self.alone(case, note)]
        if others:
            for case in wrong:
                if case not in probes:
                    self.alone(case, note)
        doubted = [case for case, result in self.results.items() if result["status"] in DOUBTED][::-1]
        while doubted:
            found, stopped = self.child(doubted)
            for case, second in found.items():
                first = self.results[case]
                if _same(first, second):
                    continue
                note = "among other cases it once ended as %s and once as %s; this is how it ends alone"
                self.alone(case, note % (first["status"], second["status"]), always=True)
            if stopped is None:
                break
            case, end, _ = stopped
            note = "among other cases it once ended as %s and once it %s; this is how it ends alone"
            self.alone(case, note % (self.results[case]["status"], _how(end)), always=True)
            doubted = doubted[doubted.index(case) + 1 :]

    def alone(self, case, note, always=False):
        """Let a run alone decide; `note` says what it was before, where that is another thing (or `always`). Whether it
        is."""
        found, died = self.child([case])
        last = died[1] if died is not None else found[case]
        other = last["status"] != "left" and (always or not _same(self.results[case], last))
        if other:
            self.results[case] = dict(last, flaky=True, note=note)
        return other

    # One child

    def child(self, todo):
        """Run cases in a process of their own, or in as many as their memory takes. (results, None), or (results, (case,
        result, the cases before it in its process)) of the one that ended it. When the time for the whole job is over, that
        one and all behind it are `left`."""
        results = {}
        while True:
            found, stopped = self.process(todo)
            results.update(found)
            todo = todo[len(found) :]
            if stopped is not None or not todo:
                return results, stopped

    def process(self, todo):
        """One process; fewer results than cases, and no one that ended it, when it made way for a new one."""
        if time.monotonic() >= self.deadline:
            return {case: _left() for case in todo}, None
        self.children += 1
        errors = os.path.join(self.job.dir, "child.txt")
        sys.stdout.flush()
        sys.stderr.flush()
        journal = Journal(todo)
        own = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be(self, own, todo, journal, errors)
        why, status = self.listen(journal, pid)
        said = _said(errors)
        results, current = journal.results(), journal.current()
        stage, since, full = journal.stage, journal.since, journal.full
        journal.close()
        if current is None and why != "budget":
            if len(results) == len(todo) or full:
                return results, None
            # It ended between two cases: what the last one left behind ended it.
            current = todo[len(results) - 1] if results else todo[0]
            results.pop(current, None)
        if why == "budget":
            for case in todo:
                results.setdefault(case, _left())
            return results, None
        end = {"stage": stage, "seconds": round(time.monotonic() - since, 6), "said": said}
        if why == "limit":
            end.update(status="timeout", end={"timeout": self.limit})
        elif os.WIFSIGNALED(status):
            end.update(status="crashed", end=leader.signal_end(os.WTERMSIG(status)))
            if "std::bad_alloc" in said and os.WTERMSIG(status) == signal.SIGABRT:
                end.update(status="memory")
        else:
            end.update(status="crashed", end={"exit": os.WEXITSTATUS(status)})
        return results, (current, end, list(results))

    def listen(self, journal, pid):
        """Until the child has ended. Why it was ended (None: it was not; "limit", "budget"), and its status."""
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        why = None
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found == pid:
                return why, status
            now, since = time.monotonic(), journal.since
            if why is None and now >= min(since + self.limit, self.deadline):
                why = "limit" if now >= since + self.limit else "budget"
                processes.send(pid, signal.SIGKILL)
            left = min(since + self.limit, self.deadline) - now if why is None else 1.0
            if poll.poll(int(1000 * left) + 1):
                processes.drain(self.wake)


class Journal:
    """What a child has told, in memory that it shares with its parent: it survives the child, and costs no system call and
    nobody's waking for each of thousands of cases.

    The head is (number of the case begun last, stage, whether the child made way, when that case or the pause behind it
    began, bytes of results); behind it stand the results, one line of JSON each."""

    HEAD = struct.Struct("=qqqdq")
    STAGES = ("parse", "build", "load", "run", "compare")
    #: Bytes for each result; its texts are cut to CLIP characters, of four bytes at most, escapes apart.
    ROOM = 1 << 14

    def __init__(self, todo):
        self.todo = todo
        self.memory = mmap.mmap(-1, self.HEAD.size + len(todo) * self.ROOM)
        self._set(-1, 0, 0, time.monotonic(), 0)

    def _set(self, *head):
        self.HEAD.pack_into(self.memory, 0, *head)

    def _head(self):
        return self.HEAD.unpack_from(self.memory, 0)

    # The child's side

    def begin(self, number):
        self._set(number, 0, 0, time.monotonic(), self._head()[4])

    def enter(self, stage):
        number, _, full, since, size = self._head()
        self._set(number, self.STAGES.index(stage), full, since, size)

    def end(self, result):
        number, stage, full, _, size = self._head()
        line = json.dumps(result, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        start = self.HEAD.size + size
        self.memory[start : start + len(line)] = line
        self._set(number, stage, full, time.monotonic(), size + len(line))  # last: what stands there is whole

    def make_way(self):
        number, stage, _, since, size = self._head()
        self._set(number, stage, 1, since, size)

    # The parent's side

    def results(self):
        """Case -> result, of those that ended."""
        lines = self.memory[self.HEAD.size : self.HEAD.size + self._head()[4]].split(b"\n")[:-1]
        return dict(zip(self.todo, (json.loads(line.decode("utf-8")) for line in lines)))

    def current(self):
        """The case that was begun and did not end, None between two."""
        number, ended = self._head()[0], self.memory[self.HEAD.size : self.HEAD.size + self._head()[4]].count(b"\n")
        return self.todo[number] if number >= ended else None

    stage = property(lambda self: self.STAGES[self._head()[1]])
    full = property(lambda self: bool(self._head()[2]))
    since = property(lambda self: self._head()[3])

    def close(self):
        self.memory.close()


def _be(suite, parent, todo, journal, errors):
    """In the child. Never returns, and runs no exit handler: those of libraries may crash, and nothing is left to lose."""
    code = 1
    try:
        processes.reset_signals()
        processes.die_with_parent(parent)
        fd = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
        os.dup2(fd, 2)
        engine = Lazy(suite.job)
        for number, name in enumerate(todo):
            journal.begin(number)
            journal.end(one(engine, suite.cases, name, journal.enter))
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > RECYCLE:
                journal.make_way()
                break
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Lazy:
    """The engine of a child, made within its first case: what it dies of there is that case's, as it would be alone."""

    def __init__(self, job):
        self.job = job
        self.engine = None

    def run(self, case, cases, enter):
        if self.engine is None:
            self.engine = conform_engines.get(self.job.input, self.job.dir)
        return self.engine.run(case, cases, enter)


def one(engine, cases, name, tell):
    """Run one case and judge it."""
    case = cases.cases[name]
    entered = ["parse"]

    def enter(stage):
        entered[0] = stage
        tell(stage)

    started = time.perf_counter()
    out = {}
    try:
        got = engine.run(case, cases, enter)
        if got is None:
            out = {"status": "built"}
        else:
            enter("compare")
            expected = [value for _, value in cases.outputs(case)]
            reason, most = conform_compare.compare(expected, got, case["rtol"], case["atol"])
            out = {
                "status": "mismatch" if reason else "match",
                "max_abs": most,
                "atol": case["atol"],
                "rtol": case["rtol"],
            }
            if reason:
                out["reason"] = reason[:CLIP]
    except conform_engines.Harness as error:
        out = {"status": "harness", "reason": str(error)[:CLIP]}
    except MemoryError as error:
        out = {"status": "memory", "error": {"type": "MemoryError", "message": str(error)[:CLIP]}}
    except Exception as error:
        message = jobs.describe(error)
        refused = jobs.REFUSED.search(message) and not jobs.DEVICE.search(message)
        kind = getattr(error, "kind", type(error).__name__)
        out = {"status": "memory" if refused else "failed", "error": {"type": kind, "message": message[:CLIP]}}
    out.update(stage=entered[0], seconds=round(time.perf_counter() - started, 6))
    return out


def _same(first, second):
    """Whether two runs of a case failed alike. Texts may name addresses and numbers; type and stage do not."""
    kinds = [(r["status"], r["stage"], (r.get("error") or {}).get("type")) for r in (first, second)]
    return kinds[0] == kinds[1] or second["status"] == "left"


def _without_places(result, job, known):
    """Take the places of this machine out of a result's texts, and cut them. Most are the words of another, too."""
    for owner, name in ((result, "reason"), (result, "said"), (result.get("error") or {}, "message")):
        if owner.get(name):
            text = owner[name]
            if text not in known:
                known[text] = jobs.scrub(text, job)[:MESSAGE]
            owner[name] = known[text]


def _left():
    return {"status": "left", "stage": "run", "seconds": 0.0, "reason": "the time for the suite was over before it ran"}


def _how(end):
    if end["status"] == "timeout":
        return "did not end within %g s" % end["end"]["timeout"]
    return "died of %s" % (end["end"].get("name") or "exit code %s" % end["end"].get("exit"))


def _said(path):
    """What a child wrote on standard error, which is passed on to the log; its last bytes."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
    except OSError:
        return ""
    if data:
        sys.stderr.write(data[: 1 << 16].decode("utf-8", "replace"))
        sys.stderr.flush()
    return data[-LAST:].decode("utf-8", "replace")
