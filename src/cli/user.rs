//! `user`: the users of `--auth users`, in their file. It asks no server.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;

use crate::auth::{Account, Accounts, Role, check_password, hash_password, read_accounts, write_accounts};
use crate::error::{Error, Result};

/// The longest first line of stdin that can be a password.
const MAX_LINE_BYTES: u64 = 4_096;

/// Add, remove or list the users of --auth users
#[derive(Debug, clap::Subcommand)]
pub enum UserCommand {
    /// Add a user, or change one; the password is asked for, or is the first line of stdin
    Add(AddUserArgs),
    /// Remove a user
    Remove(RemoveUserArgs),
    /// List the users
    List(ListUsersArgs),
}

/// The options of `user add`.
#[derive(Debug, clap::Args)]
pub struct AddUserArgs {
    /// Name of the user
    pub name: String,
    #[command(flatten)]
    file: FileOption,
    /// Whose datasets the user works on
    #[arg(long, default_value = "default")]
    tenant: String,
    /// The most that the user may do
    #[arg(long, value_enum, default_value = "admin")]
    role: Role,
    /// A group that the user is in; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
}

/// The options of `user remove`.
#[derive(Debug, clap::Args)]
pub struct RemoveUserArgs {
    /// Name of the user
    pub name: String,
    #[command(flatten)]
    file: FileOption,
}

/// The options of `user list`.
#[derive(Debug, clap::Args)]
pub struct ListUsersArgs {
    #[command(flatten)]
    file: FileOption,
}

#[derive(Debug, clap::Args)]
struct FileOption {
    /// The users file
    #[arg(long, env = "PANDAS_DB_USERS_FILE", value_name = "FILE")]
    users_file: PathBuf,
}

impl UserCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a value or a file that cannot be,
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) for a user that there is not,
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the file cannot be written.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Add(args) => add(args),
            Self::Remove(args) => remove(&args),
            Self::List(args) => list(&args),
        }
    }
}

fn add(args: AddUserArgs) -> Result<()> {
    let path = args.file.users_file;
    let mut accounts = if path.exists() { read_accounts(&path)? } else { Accounts::new() };
    let password = read_password()?;
    check_password(&password)?;
    let AddUserArgs { name, tenant, role, groups, .. } = args;
    let account = Account { name, tenant, hash: hash_password(&password)?, role, groups };
    account.check()?;
    accounts.insert(account.name.clone(), account);
    write_accounts(&path, &accounts)
}

fn remove(args: &RemoveUserArgs) -> Result<()> {
    let path = &args.file.users_file;
    let mut accounts = read_accounts(path)?;
    if accounts.remove(&args.name).is_none() {
        return Err(Error::not_found(format!("there is no user '{}' in {}", args.name, path.display())));
    }
    write_accounts(path, &accounts)
}

fn list(args: &ListUsersArgs) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    for account in read_accounts(&args.file.users_file)?.values() {
        let role = clap::ValueEnum::to_possible_value(&account.role);
        let role = role.as_ref().map_or("", |role| role.get_name());
        let line = [account.name.as_str(), &account.tenant, role, &account.groups.join(",")].join("\t");
        // A reader that closed the pipe has seen enough.
        if writeln!(stdout, "{line}").is_err() {
            break;
        }
    }
    Ok(())
}

/// The password: never an argument, which every process of the machine could read.
fn read_password() -> Result<String> {
    let unreadable = |error: std::io::Error| Error::invalid(format!("the password cannot be read: {error}"));
    if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ").map_err(unreadable)?;
        let again = rpassword::prompt_password("Again: ").map_err(unreadable)?;
        return if again == password { Ok(password) } else { Err(Error::invalid("the two passwords differ")) };
    }
    let mut line = String::new();
    std::io::stdin().lock().take(MAX_LINE_BYTES).read_line(&mut line).map_err(unreadable)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}
