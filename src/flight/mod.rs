//! Arrow Flight and Flight SQL: what comes over the wire and what goes back.
//!
//! | file | what is there |
//! |---|---|
//! | `service` | the gRPC service; each method in a few lines |
//! | `identify` | who calls |
//! | `command` | what a descriptor or ticket asks for |
//! | `put`, `load` | `DoPut`: what is put; an upload |
//! | `incoming` | Arrow data that a client sends, decoded |
//! | `guard` | what is checked of a message before it is decoded |
//! | `action` | `DoAction`: versions, retention, deleting, compaction, vacuum |
//! | `get` | `GetFlightInfo`, `GetSchema`, `DoGet` |
//! | `listing` | `ListFlights` |
//! | `sql` | Flight SQL: statements, metadata, sessions, ingest |
//! | `ticket` | signed tickets, handles and cookies |
//! | `transport` | the service as a gRPC server; rows go out without being copied |
//! | `status` | our errors as gRPC statuses; the only such place |

mod action;
mod command;
mod get;
mod guard;
mod identify;
mod incoming;
mod listing;
mod load;
mod put;
mod service;
mod sql;
mod status;
mod ticket;
mod transport;

pub use self::load::LoadSettings;
pub use self::service::{Connection, Service, Statements};
pub use self::sql::ConnectionSession;
pub use self::ticket::TicketKey;
pub use self::transport::FlightServer;
