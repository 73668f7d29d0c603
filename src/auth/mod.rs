//! Who calls, and what that caller may do.
//!
//! [`Authenticator`] turns the credentials of a call into a [`Principal`]; Flight and HTTP ask it for every call that
//! touches data, metadata too.
//!
//! | file | what is there |
//! |---|---|
//! | `credentials` | what the headers of a call say |
//! | `authenticator` | the one question, and the modes of `--auth` |
//! | `principal` | the answer |
//! | `secret` | the secret of `--handle-key`, and keys made of it |
//! | `bearer` | tokens of our own, which a log-in answers with |
//! | `jwt`, `jwks`, `issuer` | `--auth jwt`: tokens, keys, and where those come from |
//! | `policy` | `--policy`: who may do what |
//! | `revoked` | `--revoked`: who is let in no more |
//! | `standing` | the same questions again, while a call lasts |
//! | `watched` | files of settings, read again when they changed |
//! | `users`, `accounts`, `passwords`, `backoff` | `--auth users`: the file, its passwords, failed log-ins |

mod accounts;
mod authenticator;
mod backoff;
mod bearer;
mod credentials;
mod issuer;
mod jwks;
mod jwt;
mod passwords;
mod policy;
mod principal;
mod revoked;
mod secret;
mod standing;
mod users;
mod watched;

pub use self::accounts::{Account, Accounts, TOKEN_USER, read_accounts, write_accounts};
pub use self::authenticator::{Authenticator, Caller, Identity};
pub use self::credentials::{Credentials, MAX_CREDENTIALS_BYTES};
pub use self::passwords::{check_password, hash_password};
pub use self::policy::{Access, Rights};
pub use self::principal::{Principal, Role};
pub use self::secret::SigningSecret;
pub use self::standing::Standing;
