//! Runs the real-client suite of `tests/clients` (pyarrow, polars, deltalake, raw gRPC, the command line) against the built program.
//!
//! The virtual environment it needs is made below the target folder, and kept there until the requirements change.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// The interpreter of a virtual environment that has exactly what `requirements.txt` pins.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients-venv");
    let requirements = root().join("tests/clients/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).expect("the requirements are there");
    let (stamp, python) = (folder.join("installed.txt"), folder.join("bin/python"));
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements));
    std::fs::write(&stamp, wanted).expect("the stamp can be written");
    python
}

#[test]
fn real_clients() {
    let mut pytest = Command::new(python());
    pytest
        .args(["-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"])
        .arg(root().join("tests/clients"))
        .env("PANDAS_DB_BIN", env!("CARGO_BIN_EXE_pandas-db"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(root().join("tests/clients"));
    run(&mut pytest);
}
