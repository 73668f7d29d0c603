//! Arrow Flight and Flight SQL: what comes over the wire and what goes back.
//!
//! | file | what is there |
//! |---|---|
//! | `service` | the gRPC service; each method in a few lines |
//! | `command` | what a descriptor or ticket asks for |
//! | `load` | `DoPut`: an upload |
//! | `guard` | what is checked of a message before it is decoded |
//! | `action` | `DoAction`: versions, retention, deleting, compaction, vacuum |
//! | `get` | `GetFlightInfo`, `GetSchema`, `DoGet` |
//! | `listing` | `ListFlights` |
//! | `ticket` | signed tickets |
//! | `status` | our errors as gRPC statuses; the only such place |

mod action;
mod command;
mod get;
mod guard;
mod listing;
mod load;
mod service;
mod status;
mod ticket;

pub use self::load::LoadSettings;
pub use self::service::Service;
pub use self::ticket::TicketKey;
