//! Runs the real-client suites against the built program: `tests/clients` (pyarrow, polars, deltalake, raw gRPC, the
//! command line), and `python/tests`, those of the Python SDK, on the newest and on the oldest pandas that it supports.
//!
//! The virtual environments they need are made below the target folder, and kept there until the requirements change.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest Python that the SDK supports; where there is none the tests run on the one there is.
const OLDEST_PYTHON: &str = "python3.9";
const PYTHON: &str = "python3";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn runs(python: &str) -> bool {
    let version = Command::new(python).arg("--version").stdin(Stdio::null()).output();
    version.is_ok_and(|output| output.status.success())
}

/// The interpreter of a virtual environment that has exactly what a file of requirements pins, and the SDK as it is.
fn environment(name: &str, base: &str, requirements: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let requirements = root().join(requirements);
    let wanted = std::fs::read_to_string(&requirements).expect("the requirements are there");
    let (stamp, python) = (folder.join("installed.txt"), folder.join("bin/python"));
    if !std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&folder));
        pip(&python, &[], &["-r".as_ref(), &requirements]);
        std::fs::write(&stamp, wanted).expect("the stamp can be written");
    }
    // Built with what the requirements pin, and anew each time, because its sources may have changed.
    pip(&python, &["--no-deps", "--no-build-isolation", "--force-reinstall"], &[&root().join("python")]);
    python
}

fn pip(python: &Path, options: &[&str], what: &[&Path]) {
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(python).args(install).args(options).args(what));
}

fn pytest(python: &Path, folder: &str) {
    let folder = root().join(folder);
    let mut pytest = Command::new(python);
    pytest
        .args(["-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"])
        .arg(&folder)
        .env("PANDAS_DB_BIN", env!("CARGO_BIN_EXE_pandas-db"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(&folder);
    run(&mut pytest);
}

#[test]
fn real_clients() {
    pytest(&environment("clients-venv", PYTHON, "tests/clients/requirements.txt"), "tests/clients");
}

#[test]
fn python_sdk_on_the_newest_pandas() {
    let python = environment("sdk-newest-venv", PYTHON, "python/tests/requirements-newest.txt");
    let tool = |words: &[&str]| run(Command::new(&python).arg("-m").args(words).current_dir(root().join("python")));
    tool(&["mypy", "--no-incremental"]);
    tool(&["ruff", "check", "--no-cache"]);
    tool(&["ruff", "format", "--check", "--no-cache"]);
    pytest(&python, "python/tests");
}

#[test]
fn python_sdk_on_the_oldest_pandas() {
    let base = if runs(OLDEST_PYTHON) { OLDEST_PYTHON } else { PYTHON };
    pytest(&environment("sdk-oldest-venv", base, "python/tests/requirements-oldest.txt"), "python/tests");
}
