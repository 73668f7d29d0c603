//! `DoPut`: from the first message, which says what is put, to what does it.

use arrow_flight::{FlightData, PutResult};
use futures::{StreamExt, TryStreamExt, stream};
use prost::bytes::Bytes;
use tonic::Streaming;

use super::command::{PutCommand, read_put};
use super::incoming::Incoming;
use super::load::{AnswerForm, Answers, Upload, row_count};
use super::service::{Context, Service};
use super::sql::ingest_command;
use super::status::from_status;
use crate::error::{Error, Result};
use crate::table::Creation;

/// What is put, understood and not yet done.
pub(super) enum Put {
    /// Rows of a dataset.
    Upload(Box<Upload>),
    /// A statement that changes something.
    Update(String),
    /// A prepared one.
    PreparedUpdate(Bytes),
    /// Values for a prepared query.
    Bind(Bytes),
}

impl Put {
    /// Reads the first message.
    ///
    /// # Errors
    /// Those of [`read_put`] and [`Upload::new`].
    pub(super) async fn begin(messages: &mut Streaming<FlightData>, context: &Context) -> Result<(Self, FlightData)> {
        let first = messages.message().await.map_err(from_status)?;
        let first = first.ok_or_else(|| Error::invalid("the upload is empty; send a descriptor and a schema"))?;
        let descriptor = first.flight_descriptor.as_ref();
        let descriptor =
            descriptor.ok_or_else(|| Error::invalid("the first message of an upload must have a descriptor"))?;
        let upload = |command, creation, form| Upload::new(command, creation, form, &context.caller);
        let put = match read_put(descriptor)? {
            PutCommand::Load(command) => {
                Self::Upload(Box::new(upload(&command, Creation::CreateOrAppend, AnswerForm::LoadResult)?))
            }
            PutCommand::Ingest(command) => {
                let (command, creation) = ingest_command(command, &context.session.options)?;
                Self::Upload(Box::new(upload(&command, creation, AnswerForm::RowCount)?))
            }
            PutCommand::Update(sql) => Self::Update(sql),
            PutCommand::PreparedUpdate(handle) => Self::PreparedUpdate(handle),
            PutCommand::Bind(handle) => Self::Bind(handle),
        };
        Ok((put, first))
    }

    /// Does it, with the messages that follow.
    ///
    /// # Errors
    /// Those of what it does.
    pub(super) async fn run(
        self,
        service: &Service,
        context: &Context,
        first: FlightData,
        messages: Streaming<FlightData>,
        answers: &Answers,
    ) -> Result<()> {
        let messages = context.standing.clone().guard(messages.map_err(from_status));
        let messages = stream::iter([Ok(first)]).chain(messages);
        if let Self::Upload(upload) = self {
            let datasets = service.datasets.clone();
            let (caller, loads) = (context.caller.clone(), service.loads.clone());
            return upload.run(datasets, caller, loads, messages, answers, &service.metrics).await;
        }
        let incoming = Incoming::new(messages, service.loads.max_message_bytes);
        let answer = tokio::select! {
            answer = Box::pin(self.answer(service, context, incoming)) => answer?,
            // An upload sees its caller's end in its messages; a statement computes, and looks at none.
            () = answers.closed() => return Err(Error::cancelled("the caller went away before the end")),
        };
        // What was done stays done when nobody waits for the answer.
        let _ = answers.send(Ok(answer)).await;
        Ok(())
    }

    /// Runs what has one answer.
    async fn answer(self, service: &Service, context: &Context, mut incoming: Incoming) -> Result<PutResult> {
        let sql = service.sql(context);
        Ok(match self {
            Self::Upload(_) => return Err(Error::internal("an upload was taken for a statement")),
            // Some drivers send nothing more before they have the answer.
            Self::Update(text) => row_count(sql.write(&sql.statement(&text)?).await?),
            Self::PreparedUpdate(handle) => row_count(sql.prepared_update(&handle, &mut incoming).await?),
            Self::Bind(handle) => PutResult { app_metadata: sql.bind(&handle, &mut incoming).await? },
        })
    }
}
