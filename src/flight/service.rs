//! The gRPC service. Each method says what it does in a few lines; the work is elsewhere.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use super::action::{Actions, action_types};
use super::command::read_ticket;
use super::get::{Messages, PlannedRead, Reader, messages};
use super::identify::{handshake_answer, identify, log_in};
use super::listing::{list, read_prefix};
use super::load::{ANSWERS_AHEAD, LoadSettings};
use super::put::Put;
use super::sql::{Bound, ConnectionSession, Fetch, Running, Session, SqlActions, SqlCaller, is_sql_action};
use super::status::to_status;
use super::ticket::TicketKey;
use crate::audit::{AuditLog, Trail};
use crate::auth::{Authenticator, Principal, Standing};
use crate::call::{Call, Drain};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::query::Engine;
use crate::table::{Catalog, MaintenanceSettings};
use crate::wire::Message;

/// What the service works with.
#[derive(Debug, Clone)]
pub struct Service {
    /// The datasets.
    pub datasets: Arc<Catalog>,
    /// What runs reads and statements.
    pub engine: Arc<Engine>,
    /// What knows who calls.
    pub authenticator: Authenticator,
    /// What signs tickets.
    pub tickets: TicketKey,
    /// How uploads are taken.
    pub loads: LoadSettings,
    /// How datasets are maintained, on demand too.
    pub maintenance: MaintenanceSettings,
    /// Where is written who did what.
    pub audit: AuditLog,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether calls are taken.
    pub drain: Drain,
    /// What is kept of statements between calls.
    pub statements: Statements,
}

/// What is kept of statements between calls, within limits; no call depends on it but to cancel, and of old clients to
/// bind values.
#[derive(Debug, Clone, Default)]
pub struct Statements {
    pub(super) bound: Bound,
    pub(super) running: Running,
}

/// Who calls, in which session.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// Who.
    pub caller: Principal,
    /// The session.
    pub session: Session,
    /// Whether the caller may go on.
    pub standing: Standing,
}

/// The connection that a call came on; it reaches calls as an extension of their requests.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// The address of the other end.
    pub address: Option<IpAddr>,
    /// The options that callers set on it.
    pub session: ConnectionSession,
}

type Answer<T> = std::result::Result<Response<T>, Status>;

impl Service {
    fn begin<'a, T>(
        &'a self,
        request: &Request<T>,
        name: &'static str,
    ) -> impl Future<Output = Result<(Call, Context), Status>> + use<'a, T> {
        // Taken out before any wait: the streams of requests cannot be shared among threads.
        let (metadata, connection) = (request.metadata().clone(), connection_of(request));
        async move {
            let call = Call::begin(&self.drain, &self.metrics, &self.audit, name).map_err(|error| to_status(&error))?;
            match self.context(&metadata, connection, call.trail()).instrument(call.span().clone()).await {
                Ok(context) => Ok((call, context)),
                Err(error) => {
                    call.finish(Err(&error));
                    Err(to_status(&error))
                }
            }
        }
    }

    async fn context(&self, metadata: &MetadataMap, connection: Connection, trail: &Trail) -> Result<Context> {
        let identity = identify(metadata, connection.address, &self.authenticator, trail).await?;
        let caller = identity.principal.clone();
        let session = Session::of_call(metadata, Some(&connection.session), &caller, &self.tickets)?;
        Ok(Context { caller, session, standing: Standing::new(&self.authenticator, identity) })
    }

    /// Who runs statements, and with what.
    pub(super) fn sql<'a>(&'a self, context: &'a Context) -> SqlCaller<'a> {
        SqlCaller {
            engine: &self.engine,
            tickets: &self.tickets,
            bound: &self.statements.bound,
            caller: &context.caller,
            options: &context.session.options,
        }
    }

    fn reader<'a>(&'a self, context: &'a Context) -> Reader<'a> {
        Reader { datasets: &self.datasets, sql: self.sql(context) }
    }

    /// Runs a call whose answer is one message.
    async fn answer<T>(&self, call: Call, work: impl Future<Output = Result<T>>) -> Answer<T> {
        let outcome = work.instrument(call.span().clone()).await;
        call.finish(outcome.as_ref().map(drop));
        outcome.map(Response::new).map_err(|error| to_status(&error))
    }

    /// Plans the read of a ticket, which its caller can cancel from then on.
    async fn fetch(&self, context: &Context, ticket: &Ticket) -> Result<(PlannedRead, Option<Fetch>)> {
        let (command, id) = read_ticket(ticket, &context.caller, &self.tickets)?;
        let fetch = id.map(|id| self.statements.running.begin(&id)).transpose()?;
        let reader = self.reader(context);
        let planning = reader.plan(command);
        let read = match &fetch {
            None => planning.await?,
            Some(fetch) => tokio::select! {
                read = planning => read?,
                () = fetch.cancelled() => return Err(Error::cancelled("the query was cancelled")),
            },
        };
        Ok((read, fetch))
    }

    /// `DoGet`, its messages not yet in one piece.
    pub(super) async fn get(&self, request: Request<Ticket>) -> Answer<Messages> {
        let (call, context) = self.begin(&request, "do_get").await?;
        match self.fetch(&context, request.get_ref()).instrument(call.span().clone()).await {
            Ok((read, fetch)) => messages(read, &self.engine, call, fetch, self.metrics.clone(), context.standing)
                .map(Response::new)
                .map_err(|error| to_status(&error)),
            Err(error) => {
                call.finish(Err(&error));
                Err(to_status(&error))
            }
        }
    }

    async fn act(&self, context: &Context, action: &Action) -> Result<(Vec<arrow_flight::Result>, Option<String>)> {
        context.caller.trail.action(&action.r#type);
        if !is_sql_action(&action.r#type) {
            let actions = Actions { datasets: &self.datasets, settings: &self.maintenance, caller: &context.caller };
            return Ok((actions.run(action).await?, None));
        }
        let running = &self.statements.running;
        let actions = SqlActions { caller: self.sql(context), session: &context.session, running };
        let (answer, cookie) = actions.run(action).await?;
        Ok((answer.into_iter().map(|body| arrow_flight::Result { body }).collect(), cookie))
    }
}

fn connection_of<T>(request: &Request<T>) -> Connection {
    request.extensions().get().cloned().unwrap_or_default()
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        let call =
            Call::begin(&self.drain, &self.metrics, &self.audit, "handshake").map_err(|error| to_status(&error))?;
        let address = connection_of(&request).address;
        let (metadata, _, messages) = request.into_parts();
        let logging_in = log_in(&metadata, address, messages, &self.authenticator, call.trail());
        let token = logging_in.instrument(call.span().clone()).await;
        call.finish(token.as_ref().map(drop));
        token.and_then(|token| handshake_answer(&token)).map_err(|error| to_status(&error))
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        let (call, context) = self.begin(&request, "list_flights").await?;
        let prefix = match read_prefix(&request.get_ref().expression) {
            Ok(prefix) => prefix,
            Err(error) => {
                call.finish(Err(&error));
                return Err(to_status(&error));
            }
        };
        let infos = context.standing.guard(list(Arc::clone(&self.datasets), context.caller, prefix));
        // The call ends with its stream.
        let state = (infos, Some(call));
        let infos = stream::unfold(state, |(mut infos, mut call)| async move {
            let next = infos.next().await;
            let outcome = match &next {
                Some(Ok(_)) => None,
                Some(Err(error)) => Some(Err(error)),
                None => Some(Ok(())),
            };
            if let Some((outcome, call)) = outcome.zip(call.take_if(|_| !matches!(next, Some(Ok(_))))) {
                call.finish(outcome);
            }
            next.map(|item| (item.map_err(|error| to_status(&error)), (infos, call)))
        });
        Ok(Response::new(infos.boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let (call, context) = self.begin(&request, "get_flight_info").await?;
        self.answer(call, self.reader(&context).info(request.into_inner())).await
    }

    /// Everything is planned at once, so that the first poll is also the last.
    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        let (call, context) = self.begin(&request, "poll_flight_info").await?;
        let work = async {
            let info = self.reader(&context).info(request.into_inner()).await?;
            Ok(PollInfo { info: Some(info), flight_descriptor: None, progress: Some(1.0), expiration_time: None })
        };
        self.answer(call, work).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let (call, context) = self.begin(&request, "get_schema").await?;
        self.answer(call, self.reader(&context).schema(request.get_ref())).await
    }

    /// The trait's form of it; what comes over the wire is answered by `transport`, without this copy.
    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let messages = self.get(request).await?;
        Ok(messages.map(|messages| messages.map_ok(Message::into_flight_data).boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let (call, context) = self.begin(&request, "do_put").await?;
        let mut messages = request.into_inner();
        let (put, first) = match Put::begin(&mut messages, &context).await {
            Ok(begun) => begun,
            Err(error) => {
                call.finish(Err(&error));
                return Err(to_status(&error));
            }
        };
        let (answers, answered) = mpsc::channel(ANSWERS_AHEAD);
        let (service, span) = (self.clone(), call.span().clone());
        let work = async move {
            let outcome = put.run(&service, &context, first, messages, &answers).await;
            if let Err(error) = &outcome {
                let _ = answers.send(Err(to_status(error))).await;
            }
            call.finish(outcome.as_ref().map(drop));
        };
        tokio::spawn(work.instrument(span));
        Ok(Response::new(ReceiverStream::new(answered).boxed()))
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        let (call, _) = self.begin(&request, "do_exchange").await?;
        self.answer(call, async { Err(Error::unimplemented("DoExchange is not available; use DoPut and DoGet")) }).await
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let (call, context) = self.begin(&request, "do_action").await?;
        let mut set_cookie = None;
        let work = async {
            let (answers, cookie) = self.act(&context, request.get_ref()).await?;
            let cookie = cookie.map(MetadataValue::try_from).transpose();
            set_cookie = cookie.map_err(|error| Error::internal("a cookie cannot be sent").because(error))?;
            Ok(stream::iter(answers.into_iter().map(Ok)).boxed())
        };
        let mut response = self.answer::<Self::DoActionStream>(call, work).await?;
        if let Some(cookie) = set_cookie {
            response.metadata_mut().insert("set-cookie", cookie);
        }
        Ok(response)
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Self::ListActionsStream> {
        let (call, _) = self.begin(&request, "list_actions").await?;
        self.answer(call, async { Ok(stream::iter(action_types().into_iter().map(Ok)).boxed()) }).await
    }
}
