//! The gRPC service. Each method says what it does in a few lines; the work is elsewhere.

use std::future::Future;
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
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use super::action::{Actions, action_types};
use super::command::{read_descriptor, read_load, read_ticket};
use super::get::{PlannedRead, flight_info, messages, schema_result};
use super::listing::{list, read_prefix};
use super::load::{ANSWERS_AHEAD, LoadSettings, Upload};
use super::status::{from_status, to_status};
use super::ticket::TicketKey;
use crate::auth::Principal;
use crate::call::{Call, Drain};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::query::Engine;
use crate::table::{Catalog, MaintenanceSettings};

/// What the service works with.
#[derive(Debug, Clone)]
pub struct Service {
    /// The datasets.
    pub datasets: Arc<Catalog>,
    /// What runs reads and statements.
    pub engine: Arc<Engine>,
    /// What signs tickets.
    pub tickets: TicketKey,
    /// How uploads are taken.
    pub loads: LoadSettings,
    /// How datasets are maintained, on demand too.
    pub maintenance: MaintenanceSettings,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether calls are taken.
    pub drain: Drain,
}

type Answer<T> = std::result::Result<Response<T>, Status>;

impl Service {
    fn begin(&self, name: &'static str) -> Result<(Call, Principal), Status> {
        let call = Call::begin(&self.drain, &self.metrics, name).map_err(|error| to_status(&error))?;
        Ok((call, Principal::local()))
    }

    /// Runs a call whose answer is one message.
    async fn answer<T>(&self, call: Call, work: impl Future<Output = Result<T>>) -> Answer<T> {
        let outcome = work.instrument(call.span().clone()).await;
        call.finish(outcome.as_ref().map(drop));
        outcome.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn info(&self, caller: &Principal, descriptor: FlightDescriptor) -> Result<FlightInfo> {
        let command = read_descriptor(&descriptor)?;
        let read = PlannedRead::plan(&self.engine, caller, &command).await?;
        flight_info(&read, &command, descriptor, caller, &self.tickets)
    }

    async fn begin_upload(
        &self,
        caller: &Principal,
        messages: &mut Streaming<FlightData>,
    ) -> Result<(Upload, FlightData)> {
        let first = messages.message().await.map_err(from_status)?;
        let first = first.ok_or_else(|| Error::invalid("the upload is empty; send a descriptor and a schema"))?;
        let descriptor = first.flight_descriptor.as_ref();
        let descriptor =
            descriptor.ok_or_else(|| Error::invalid("the first message of an upload must have a descriptor"))?;
        Ok((Upload::new(&read_load(descriptor)?, caller)?, first))
    }
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

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        let (call, caller) = self.begin("handshake")?;
        call.finish(Ok(()));
        // Without authentication any credentials do; clients that log in still want a token to go on with.
        let reply = HandshakeResponse { protocol_version: 0, payload: caller.user.clone().into() };
        let mut response = Response::new(stream::iter([Ok(reply)]).boxed());
        response.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer local"));
        Ok(response)
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        let (call, caller) = self.begin("list_flights")?;
        let prefix = match read_prefix(&request.get_ref().expression) {
            Ok(prefix) => prefix,
            Err(error) => {
                call.finish(Err(&error));
                return Err(to_status(&error));
            }
        };
        let infos = list(Arc::clone(&self.datasets), caller, prefix);
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
        let (call, caller) = self.begin("get_flight_info")?;
        self.answer(call, self.info(&caller, request.into_inner())).await
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        let (call, _) = self.begin("poll_flight_info")?;
        let refused = async { Err(Error::unimplemented("PollFlightInfo is not available; use GetFlightInfo")) };
        self.answer(call, refused).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let (call, caller) = self.begin("get_schema")?;
        let work = async {
            let command = read_descriptor(request.get_ref())?;
            schema_result(&PlannedRead::plan(&self.engine, &caller, &command).await?)
        };
        self.answer(call, work).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let (call, caller) = self.begin("do_get")?;
        let planned = async {
            let command = read_ticket(request.get_ref(), &caller, &self.tickets)?;
            PlannedRead::plan(&self.engine, &caller, &command).await
        };
        match planned.instrument(call.span().clone()).await {
            Ok(read) => messages(read, &self.engine, call, self.metrics.clone())
                .map(Response::new)
                .map_err(|error| to_status(&error)),
            Err(error) => {
                call.finish(Err(&error));
                Err(to_status(&error))
            }
        }
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let (call, caller) = self.begin("do_put")?;
        let mut messages = request.into_inner();
        let (upload, first) = match self.begin_upload(&caller, &mut messages).await {
            Ok(begun) => begun,
            Err(error) => {
                call.finish(Err(&error));
                return Err(to_status(&error));
            }
        };
        let (answers, answered) = mpsc::channel(ANSWERS_AHEAD);
        let (datasets, loads, metrics) = (Arc::clone(&self.datasets), self.loads.clone(), self.metrics.clone());
        let span = call.span().clone();
        let work = async move {
            let messages = stream::iter([Ok(first)]).chain(messages.into_stream());
            let outcome = upload.run(datasets, caller, loads, messages, &answers, &metrics).await;
            if let Err(error) = &outcome {
                let _ = answers.send(Err(to_status(error))).await;
            }
            call.finish(outcome.as_ref().map(drop));
        };
        tokio::spawn(work.instrument(span));
        Ok(Response::new(ReceiverStream::new(answered).boxed()))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        let (call, _) = self.begin("do_exchange")?;
        self.answer(call, async { Err(Error::unimplemented("DoExchange is not available; use DoPut and DoGet")) }).await
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let (call, caller) = self.begin("do_action")?;
        let work = async {
            let actions = Actions { datasets: &self.datasets, settings: &self.maintenance, caller: &caller };
            let answers = actions.run(request.get_ref()).await?;
            Ok(stream::iter(answers.into_iter().map(Ok)).boxed())
        };
        self.answer(call, work).await
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        let (call, _) = self.begin("list_actions")?;
        self.answer(call, async { Ok(stream::iter(action_types().into_iter().map(Ok)).boxed()) }).await
    }
}
