//! The files of one version, gzip-compressed CSV, as rows: one file after the other.

use std::fs::File;
use std::sync::Arc;

use arrow::csv;
use arrow::datatypes::{Schema, SchemaRef};
use flate2::read::MultiGzDecoder;

use super::place::LocalFile;
use super::types::ColumnTypes;
use crate::cli::input::{BATCH_ROWS, Batches, Rows, csv_format};
use crate::error::{Error, Result, shorten};

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Parts {
    files: Arc<[LocalFile]>,
    schema: SchemaRef,
    count: u64,
}

impl Parts {
    /// Reads all files for their columns, types and rows. Blocks.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a file that is damaged, or has other columns than the first.
    pub(super) fn open(files: Vec<LocalFile>) -> Result<Self> {
        let (mut types, mut first, mut count) = (ColumnTypes::default(), None::<Schema>, 0);
        for file in &files {
            let inferred = csv_format().infer_schema(unpacked(file)?, None);
            let (schema, rows) = inferred.map_err(|error| unreadable(file, &error))?;
            types.add(&schema);
            count += rows as u64;
            match &first {
                None => first = Some(schema),
                Some(first) if names(first).eq(names(&schema)) => {}
                Some(first) => {
                    let [first, other] = [first, &schema].map(|schema| names(schema).collect::<Vec<_>>().join(", "));
                    return Err(Error::invalid(format!(
                        "{}: its columns are {}, those of the first file {}",
                        file.named,
                        shorten(&other),
                        shorten(&first)
                    )));
                }
            }
        }
        let schema = types.apply(&first.unwrap_or_else(Schema::empty));
        Ok(Self { files: files.into(), schema, count })
    }

    /// The columns with the types that these files alone would have.
    pub(super) fn found(&self) -> &Schema {
        &self.schema
    }

    /// The same rows with the types of the dataset.
    pub(super) fn with_types(self, types: &ColumnTypes) -> Self {
        Self { schema: types.apply(&self.schema), ..self }
    }
}

impl Rows for Parts {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn batches(&self) -> Result<Batches> {
        let (files, schema) = (Arc::clone(&self.files), Arc::clone(&self.schema));
        // One file is open at a time.
        let batches = (0..files.len()).flat_map(move |at| match files.get(at) {
            Some(file) => batches_of(file, &schema),
            None => Box::new(std::iter::empty()),
        });
        Ok(Box::new(batches))
    }
}

fn batches_of(file: &LocalFile, schema: &SchemaRef) -> Batches {
    let opened = unpacked(file).and_then(|text| {
        let builder = csv::ReaderBuilder::new(Arc::clone(schema)).with_format(csv_format());
        builder.with_batch_size(BATCH_ROWS).build(text).map_err(|error| unreadable(file, &error))
    });
    match opened {
        Ok(reader) => {
            let named = file.named.clone();
            let wrong = move |error| Error::invalid(format!("cannot read {named}: {error}"));
            Box::new(reader.map(move |batch| batch.map_err(&wrong)))
        }
        Err(error) => Box::new(std::iter::once(Err(error))),
    }
}

fn names(schema: &Schema) -> impl Iterator<Item = &str> {
    schema.fields().iter().map(|field| field.name().as_str())
}

fn unpacked(file: &LocalFile) -> Result<MultiGzDecoder<File>> {
    let opened = File::open(file.path());
    opened.map(MultiGzDecoder::new).map_err(|error| Error::invalid(format!("cannot open {}: {error}", file.named)))
}

fn unreadable(file: &LocalFile, error: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("cannot read {}: {error}", file.named))
}
