//! Runs the real-client suite of `tests/clients` against the built program: pyarrow, ADBC, pandas, polars, SQLAlchemy,
//! Superset's driver, the clients of npm, deltalake, raw gRPC, the command line.
//!
//! The environments it needs are made below the target folder, and kept there until what they are made from changes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// The folder `name` below the target folder, emptied and filled by `make` if any of the files has changed since.
fn made_from(name: &str, files: &[&str], make: impl FnOnce(&Path)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let read =
        |file: &&str| std::fs::read_to_string(root().join("tests/clients").join(file)).expect("the file is there");
    let (stamp, wanted) = (folder.join("installed.txt"), files.iter().map(read).collect::<String>());
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    make(&folder);
    std::fs::write(&stamp, wanted).expect("the stamp can be written");
    folder
}

/// The interpreter of a virtual environment that has exactly what a file of requirements pins.
fn python(name: &str, requirements: &str) -> PathBuf {
    let folder = made_from(name, &[requirements], |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder));
        run(Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(root().join("tests/clients").join(requirements)));
    });
    folder.join("bin/python")
}

/// The packages of npm that the lock file pins. Their install scripts are not run; none of them needs any.
fn node_modules() -> PathBuf {
    let files = ["npm/package.json", "npm/package-lock.json"];
    let folder = made_from("clients-npm", &files, |folder| {
        for file in files {
            let name = Path::new(file).file_name().expect("the file has a name");
            std::fs::copy(root().join("tests/clients").join(file), folder.join(name)).expect("the file can be copied");
        }
        // Not `npm ci`: a package for another system that was never published keeps it from taking the lock file.
        run(Command::new("npm")
            .args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
            .current_dir(folder));
    });
    folder.join("node_modules")
}

#[test]
fn real_clients() {
    let mut pytest = Command::new(python("clients-venv", "requirements.txt"));
    pytest
        .args(["-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"])
        .arg(root().join("tests/clients"))
        .env("PANDAS_DB_BIN", env!("CARGO_BIN_EXE_pandas-db"))
        .env("PANDAS_DB_SUPERSET_PYTHON", python("superset-venv", "superset-requirements.txt"))
        .env("PANDAS_DB_NODE_MODULES", node_modules())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(root().join("tests/clients"));
    run(&mut pytest);
}
