//! Runs the real-client suites against the built program: that of `tests/clients` (pyarrow, ADBC, pandas, polars,
//! SQLAlchemy, Superset's driver, the clients of npm, deltalake, raw gRPC, the command line; and what is in `deploy`),
//! and that of the Python SDK in `python/tests`, on the newest and on the oldest pandas that it supports. The first
//! runs twice: with a local folder, and with S3 and DynamoDB as stand-ins that it starts itself.
//!
//! The environments it needs are made below the target folder, and kept there until what they are made from changes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::root;

const PYTHON: &str = "python3";
/// The oldest Python that the SDK supports. Where there is none its tests run on the Python there is.
const OLDEST_PYTHON: &str = "python3.9";
/// Processes that share the files of `tests/clients`. Each waits for its servers much of the time.
const WORKERS: &str = "3";

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// The folder `name` below the target folder, emptied and filled by `make` if any of the files has changed since.
fn made_from(name: &str, files: &[&str], make: impl FnOnce(&Path)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let read = |file: &&str| std::fs::read_to_string(root().join(file)).expect("the file is there");
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
fn python(name: &str, base: &str, requirements: &str) -> PathBuf {
    let folder = made_from(name, &[requirements], |folder| {
        run(Command::new(base).args(["-m", "venv"]).arg(folder));
        run(pip_install(&folder.join("bin/python")).arg("-r").arg(root().join(requirements)));
    });
    folder.join("bin/python")
}

fn pip_install(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    command
}

/// Builds the SDK with what the environment has, and installs it: each time, because its sources may have changed.
fn install_sdk(python: &Path) {
    run(pip_install(python)
        .args(["--no-deps", "--no-build-isolation", "--force-reinstall"])
        .arg(root().join("python")));
}

fn can_run(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn pytest(python: &Path, folder: &str) -> Command {
    let folder = root().join(folder);
    let mut pytest = Command::new(python);
    pytest
        .args(["-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"])
        .arg(&folder)
        .env("PANDAS_DB_BIN", env!("CARGO_BIN_EXE_pandas-db"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(&folder);
    pytest
}

/// The packages of npm that the lock file pins. Their install scripts are not run; none of them needs any.
fn node_modules() -> PathBuf {
    let files = ["tests/clients/npm/package.json", "tests/clients/npm/package-lock.json"];
    let folder = made_from("clients-npm", &files, |folder| {
        for file in files {
            let name = Path::new(file).file_name().expect("the file has a name");
            std::fs::copy(root().join(file), folder.join(name)).expect("the file can be copied");
        }
        // Not `npm ci`: a package for another system that was never published keeps it from taking the lock file.
        run(Command::new("npm")
            .args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
            .current_dir(folder));
    });
    folder.join("node_modules")
}

/// What the suite of `tests/clients` needs. It is made once, for both of its runs.
struct Environments {
    own: PathBuf,
    superset: PathBuf,
    deploy: PathBuf,
    node_modules: PathBuf,
}

fn environments() -> &'static Environments {
    static MADE: OnceLock<Environments> = OnceLock::new();
    MADE.get_or_init(|| {
        let own = python("clients-venv", PYTHON, "tests/clients/requirements.txt");
        install_sdk(&own);
        let superset = python("superset-venv", PYTHON, "tests/clients/superset-requirements.txt");
        let deploy = python("deploy-venv", PYTHON, "tests/clients/deploy-requirements.txt");
        Environments { own, superset, deploy, node_modules: node_modules() }
    })
}

fn run_clients(backend: &str) {
    // One after the other: together they would starve the stand-ins, which requests wait for no longer than 5 seconds.
    static RUNNING: Mutex<()> = Mutex::new(());
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let Environments { own, superset, deploy, node_modules } = environments();
    let mut suite = pytest(own, "tests/clients");
    suite.args(["--numprocesses", WORKERS, "--dist", "loadfile", "--no-loadscope-reorder"]);
    suite.env("PANDAS_DB_TEST_BACKEND", backend);
    suite.env("PANDAS_DB_SUPERSET_PYTHON", superset).env("PANDAS_DB_NODE_MODULES", node_modules);
    // What deploy/ is tried on stands in for AWS in the other tests too.
    run(suite.env("PANDAS_DB_DEPLOY_PYTHON", deploy).env("PANDAS_DB_STAND_INS", deploy));
}

#[test]
fn real_clients_on_a_local_folder() {
    run_clients("local");
}

#[test]
fn real_clients_on_s3_and_dynamodb() {
    run_clients("aws");
}

#[test]
fn python_sdk_on_the_newest_pandas() {
    let python = python("sdk-newest-venv", PYTHON, "python/tests/requirements-newest.txt");
    install_sdk(&python);
    for check in [
        &["mypy", "--no-incremental"][..],
        &["ruff", "check", "--no-cache"],
        &["ruff", "format", "--check", "--no-cache"],
    ] {
        run(Command::new(&python).arg("-m").args(check).current_dir(root().join("python")));
    }
    run(&mut pytest(&python, "python/tests"));
}

#[test]
fn python_sdk_on_the_oldest_pandas() {
    let base = if can_run(OLDEST_PYTHON) { OLDEST_PYTHON } else { PYTHON };
    let python = python("sdk-oldest-venv", base, "python/tests/requirements-oldest.txt");
    install_sdk(&python);
    run(&mut pytest(&python, "python/tests"));
}
