#!/usr/bin/env python3
"""What Cargo cannot say: who may import whom, where `unsafe` and the runtime may live, how long a file may be.

Reads manifests and sources as text. Prints one line a rule and `N passed, N failed`.
"""

import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = {"wire", "desk", "journal", "mail", "shard", "edge", "tuning"}
# docs/ARCHITECTURE.md, "Who may import whom". Tests and examples obey too.
MAY = {
    "wire": set(), "desk": set(), "journal": set(), "tuning": set(),
    "mail": {"desk", "journal"},
    "shard": {"wire", "desk", "journal", "mail"},
    "edge": {"shard", "mail", "desk", "journal"},
    "": {"edge", "mail", "desk", "journal", "tuning"},
}
PURE = ["wire", "desk", "journal", "shard", "mail"]
LINES_MAX = 700
failures = []
passed = 0


def check(name, problems):
    global passed
    if problems:
        failures.append(name)
        print(f"FAIL {name}")
        for problem in problems:
            print(f"     {problem}")
    else:
        passed += 1
        print(f"ok   {name}")


def tracked(*patterns):
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def manifest(folder):
    with open(ROOT / folder / "Cargo.toml", "rb") as file:
        return tomllib.load(file)


def tables(data, *names):
    for name in names:
        yield from data.get(name, {})
    for target in data.get("target", {}).values():
        for name in names:
            yield from target.get(name, {})


problems = []
for crate, may in MAY.items():
    folder = "." if not crate else ("tuning" if crate == "tuning" else f"shards/{crate}")
    for dependency in tables(manifest(folder), "dependencies", "dev-dependencies", "build-dependencies"):
        ours = dependency.removeprefix("ringdesk-")
        if ours in OURS and ours not in may:
            problems.append(f"{crate or 'src'} imports {ours}")
check("imports go down", problems)

# Those who judge from outside share nothing with what they judge.
problems = []
for folder in ["tests/crash", "tests/sockets", "bench"]:
    for dependency in tables(manifest(folder), "dependencies", "dev-dependencies", "build-dependencies"):
        if dependency.removeprefix("ringdesk-") in OURS:
            problems.append(f"{folder} depends on {dependency}")
check("who judges from outside imports nothing of ours", problems)

RUNTIMES = {"tokio", "axum", "hyper", "sqlx", "reqwest", "monoio", "glommio"}
problems = []
for crate in MAY:
    if crate:
        folder = "tuning" if crate == "tuning" else f"shards/{crate}"
        for dependency in tables(manifest(folder), "dependencies"):
            if dependency in RUNTIMES:
                problems.append(f"{crate} depends on {dependency}: async runtimes live in src/ only")
            if dependency == "io-uring" and crate != "edge":
                problems.append(f"{crate} depends on io-uring: it lives in edge only")
check("runtimes live in src, rings in edge", problems)

problems = []
for crate in PURE:
    text = (ROOT / f"shards/{crate}/src/lib.rs").read_text()
    if "#![forbid(unsafe_code)]" not in text:
        problems.append(f"shards/{crate}/src/lib.rs does not forbid unsafe code")
check("pure crates forbid unsafe code", problems)

problems = []
for path in tracked("*.rs", "*.ts"):
    lines = path.read_text().count("\n")
    if lines > LINES_MAX:
        problems.append(f"{path.relative_to(ROOT)} has {lines} lines: split it by the state it owns")
check("no file owns everything", problems)

STUB = re.compile(r"\b(todo!|unimplemented!)\s*\(|FIXME|XXX|not yet implemented|#\[ignore")
problems = []
for path in tracked("*.rs", "*.ts", "*.mjs", "tests/run"):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if STUB.search(line):
            problems.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
check("nothing is called done that is a stub", problems)

problems = []
for path in tracked():
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        continue
    for bad in ["/" + "work/", "/" + "root/"]:
        if bad in text and path.suffix != ".lock" and path.name != "package-lock.json":
            problems.append(f"{path.relative_to(ROOT)} holds {bad}")
check("no path of a development machine", problems)

# The order of the words in the protocol page is what the encoder and the parser know.
protocol = (ROOT / "docs/protocol.md").read_text()
request = (ROOT / "shards/desk/src/request.rs").read_text()
codes = re.findall(r'^\| `([a-z_]+)` \| (?:yes|no) \|', protocol, re.M)
known = set(re.findall(r'ErrorCode::\w+ => "([a-z_]+)",', request))
check("docs/protocol.md lists every error code", sorted(known.symmetric_difference(codes)))

print(f"{passed} passed, {len(failures)} failed")
sys.exit(bool(failures))
