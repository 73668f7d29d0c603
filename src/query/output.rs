//! The one schema that a result is declared and sent with.
//!
//! Clients compare the schema of `GetFlightInfo` with that of `DoGet`, and many read neither view nor large types nor
//! dictionaries. So both are made here, and every batch is cast to it.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{DataType, IntervalUnit, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::table::sql_type;

/// The schema in which the result of a plan with the schema `plan` is sent.
pub(super) fn output_schema(plan: &Schema) -> SchemaRef {
    let fields = plan.fields().iter().map(|field| {
        let data_type = output_type(field.data_type());
        Arc::new(arrow::datatypes::Field::new(field.name(), data_type, field.is_nullable()))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The type in which a column of the engine is sent. What it computes inside of lists and structs is sent as it is
/// where stored columns would have another form.
fn output_type(computed: &DataType) -> DataType {
    let sent = match computed {
        // Most clients read no other kind of interval.
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        other => sql_type(other),
    };
    if can_cast_types(computed, &sent) { sent } else { computed.clone() }
}

/// The schema with every column nullable: where values are only known later, so is whether one of them is null.
pub(super) fn all_nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Casts a batch of the plan to the schema it is sent in.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when the plan's batch is not of the plan's schema.
pub(super) fn to_output(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let broken = |error| Error::internal("a result does not fit its declared schema").because(error);
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) }
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>().map_err(broken)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(broken)
}
