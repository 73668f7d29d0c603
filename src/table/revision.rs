//! What a SQL statement makes of the rows of a dataset: some change, some go, some are added, all in one commit.
//!
//! It is computed on one state of the dataset, group of chunks by group of chunks. Of each chunk that holds a changed
//! row a new one is made, in which every row that stays keeps its load and its place, and every column that the
//! statement does not set keeps its stored values. Rows that it adds are those of the version it makes, which it also
//! makes when it adds none. The commit takes it only if no other has changed rows since that state; otherwise the
//! statement is to be computed anew.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array, new_empty_array};
use arrow::compute::take;
use arrow::datatypes::{Field, SchemaRef};
use futures::stream::{self, StreamExt};

use super::blocking::on_thread;
use super::categories::{CategoryBuilder, count_dictionaries};
use super::chunk::Chunk;
use super::commit::{CommitTurn, LoadOutcome, PendingRows};
use super::convert::to_physical;
use super::dataset::Dataset;
use super::edit::{Edit, EditedColumn, Left};
use super::encode::{LoadColumn, WrittenChunk};
use super::form::StoredForm;
use super::load::{Load, LoadRequest, Prepared};
use super::record::WriteKind;
use super::rewrite::{fetch, store_beside};
use super::snapshot::{Snapshot, Version};
use super::split::{ReadyChunk, SplitSettings};
use super::sql_values::{check_version, from_sql, with_any_categories};
use super::types::has_remainder;
use super::writer::{ChunkWriter, remove_file};
use crate::error::{Error, Kind, Result};
use crate::names::ExternalKey;

/// Chunks that are made anew at the same time.
const EDITS_IN_FLIGHT: usize = 2;

/// What becomes of some rows.
#[derive(Debug)]
pub struct RowChanges {
    /// The load that each came with.
    pub loads: Int64Array,
    /// Its place in it.
    pub rows: Int64Array,
    /// Whether it goes.
    pub deleted: BooleanArray,
    /// The new values of those that stay.
    pub columns: Vec<ChangedColumn>,
}

/// New values of a column.
#[derive(Debug)]
pub struct ChangedColumn {
    /// The column.
    pub name: String,
    /// The values, as SQL computed them.
    pub values: ArrayRef,
    /// Which rows get theirs.
    pub assigned: BooleanArray,
}

/// See the module's comment.
pub struct Revision {
    dataset: Arc<Dataset>,
    base: Arc<Snapshot>,
    schema: SchemaRef,
    form: StoredForm,
    settings: SplitSettings,
    load: Load,
    by_load: HashMap<i64, Version>,
    categories: CategoryBuilder,
    removes: Vec<String>,
    adds: Vec<(WrittenChunk, i64)>,
    changes: BTreeSet<i64>,
    changed_rows: i64,
}

impl Revision {
    /// Begins what a statement of `user` makes of the state `base`. The version that it makes has the schema `schema`;
    /// it sets the columns `assigned`.
    ///
    /// # Errors
    /// Those of [`Load::begin`] and [`Load::begin_rows`].
    pub async fn begin(
        dataset: Arc<Dataset>,
        base: Arc<Snapshot>,
        schema: SchemaRef,
        assigned: &[String],
        statement: WriteKind,
        user: &str,
        settings: SplitSettings,
    ) -> Result<Self> {
        let request = LoadRequest {
            columns_keys: Default::default(),
            external_key: ExternalKey::parse(None)?,
            keep_last: false,
            idempotency_key: None,
            total_rows: None,
            user: user.into(),
            statement: Some(statement),
        };
        let mut load = Load::begin(Arc::clone(&dataset), request, settings.clone()).await?;
        load.begin_rows(Arc::clone(&schema))?;
        let fine = |name: &&String| schema.field_with_name(name).is_ok_and(|field| has_remainder(field.data_type()));
        let remainders: HashSet<String> = assigned.iter().filter(fine).cloned().collect();
        let form = StoredForm::of(&base, base.columns.joined(&schema, &base.names, &remainders)?);
        let by_load = base.live_versions().map(|version| (version.record.load_id, version.clone())).collect();
        Ok(Self {
            dataset,
            base,
            schema,
            form,
            settings,
            load,
            by_load,
            categories: CategoryBuilder::default(),
            removes: Vec::new(),
            adds: Vec::new(),
            changes: BTreeSet::new(),
            changed_rows: 0,
        })
    }

    /// The schema of the version that the statement makes.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows changed or deleted so far.
    pub fn changed_rows(&self) -> i64 {
        self.changed_rows
    }

    /// The rows added so far.
    pub fn added_rows(&self) -> i64 {
        self.load.rows()
    }

    /// Changes rows, all of which are in `chunks`. No chunk may be given to two calls.
    ///
    /// # Errors
    /// [`Kind::Invalid`] naming the column and the value that does not fit it, and those of reading and storing chunks.
    pub async fn change(&mut self, chunks: &[Arc<Chunk>], changes: RowChanges) -> Result<()> {
        let count = changes.loads.len();
        if count == 0 {
            return Ok(());
        }
        let edit = Arc::new(self.edit(changes)?);
        let work = chunks.iter().filter(|chunk| edit.may_touch(chunk)).map(|chunk| {
            let (dataset, form, edit) = (&self.dataset, self.form.clone(), Arc::clone(&edit));
            async move { Ok::<_, Error>((chunk, edit_chunk(dataset, form, chunk, edit).await?)) }
        });
        let work: Vec<_> = work.collect();
        let edited: Vec<_> = stream::iter(work).buffered(EDITS_IN_FLIGHT).collect().await;
        let (mut moved, mut touched, mut failed) = (Vec::new(), 0, None);
        for outcome in edited {
            match outcome {
                Ok((_, None)) => {}
                Ok((chunk, Some(done))) => {
                    touched += done.touched;
                    moved.extend(done.moved);
                    self.removes.push(chunk.path.clone());
                    self.adds.extend(done.stays.map(|written| (written, chunk.number)));
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)?;
        if touched != count {
            return Err(Error::internal("a row that a statement changes is not where it was found"));
        }
        self.changed_rows += count as i64;
        self.store_moved(moved).await
    }

    /// Deletes all rows.
    pub fn delete_all(&mut self) {
        for version in self.base.live_versions().filter(|version| version.rows > 0) {
            self.changes.insert(version.record.version);
            self.changed_rows += version.rows;
        }
        self.removes.extend(self.base.live_chunks().map(|chunk| chunk.path.clone()));
    }

    /// Adds rows, in the schema of the version.
    ///
    /// # Errors
    /// Those of [`Load::push`].
    pub async fn add(&mut self, batch: RecordBatch) -> Result<()> {
        self.load.push(batch).await
    }

    /// Commits; in the turn that the caller has waited for, if it has one. `None` when nothing changes, which makes no
    /// version.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when others have changed rows since the state it was computed on, and those of storing and
    /// committing. Nothing is visible after an error, unless it says that the outcome is not known.
    pub async fn commit(mut self, turn: Option<CommitTurn>) -> Result<Option<LoadOutcome>> {
        if self.changed_rows == 0 && self.added_rows() == 0 {
            self.abandon().await;
            return Ok(None);
        }
        let categories = std::mem::take(&mut self.categories);
        let prepared = match self.load.add_categories(categories).await {
            Ok(()) => self.load.prepare().await,
            Err(error) => {
                self.load.abandon().await;
                Err(error)
            }
        };
        let dataset = self.dataset;
        let unused: Vec<String> = self.adds.iter().map(|(chunk, _)| chunk.path.clone()).collect();
        let (Prepared { mut pending, category_file, .. }, _) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                remove_files(&dataset, unused).await;
                return Err(error);
            }
        };
        pending.record.changes = self.changes.into_iter().collect();
        let unused = unused.into_iter().chain(pending.chunks.iter().map(|chunk| chunk.path.clone()));
        let unused: Vec<String> = unused.chain(category_file).collect();
        let rows = PendingRows {
            base: self.base.log_version,
            removes: self.removes,
            stored: self.form.stored,
            adds: self.adds,
            load: pending,
        };
        let outcome = Arc::clone(&dataset).commit_rows(rows, turn).await;
        // After any other error the outcome may be unknown, and what it may name must stay.
        let is_refused = |error: &Error| matches!(error.kind(), Kind::Conflict | Kind::NotFound | Kind::Invalid);
        if outcome.as_ref().is_err_and(is_refused) {
            remove_files(&dataset, unused).await;
        }
        let outcome = outcome?;
        if self.base.retention.keep_versions.is_some() && outcome.record.rows > 0 {
            // It is done, whatever becomes of this; the next load expires what stays.
            if let Err(error) = dataset.expire_now().await {
                tracing::warn!(error = %error.in_full(), "versions could not be expired after a statement");
            }
        }
        Ok(Some(outcome))
    }

    /// Ends what is not to be committed.
    pub async fn abandon(self) {
        remove_files(&self.dataset, self.adds.iter().map(|(chunk, _)| chunk.path.clone()).collect()).await;
        self.load.abandon().await;
    }

    /// The changes in the form of what is stored.
    fn edit(&mut self, changes: RowChanges) -> Result<Edit> {
        for load in changes.loads.values() {
            let version = self.by_load.get(load).ok_or_else(|| Error::internal("a changed row is of no version"))?;
            self.changes.insert(version.record.version);
        }
        let keys = self.base.keys.iter().flatten().map(|(name, _)| name);
        let moves = changes.columns.iter().any(|column| keys.clone().any(|key| *key == column.name));
        let columns = changes.columns.iter().map(|column| self.stored_column(column, &changes.loads));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Edit::new(&changes.loads, &changes.rows, changes.deleted, columns.into_iter().flatten().collect(), moves)
    }

    /// New values as they are stored; `None` for a column of nulls alone, which is not.
    fn stored_column(&mut self, column: &ChangedColumn, loads: &Int64Array) -> Result<Option<EditedColumn>> {
        let schema = Arc::clone(&self.schema);
        let field = schema.field_with_name(&column.name);
        let field = field.map_err(|error| Error::internal("a changed column is not there").because(error))?;
        let values = from_sql(&column.name, &column.values, &with_any_categories(field.data_type()))?;
        self.check_versions(&column.name, &values, &column.assigned, loads)?;
        let known = self.form.columns.find(&column.name).map(|known| (known.names.physical.clone(), known.clone()));
        let (physical_name, known) = known.ok_or_else(|| Error::internal("a changed column is not known"))?;
        let Some(physical) = &known.physical else { return Ok(None) };
        let mut stored = None;
        // Dictionaries are numbered over the whole schema.
        self.categories.begin_batch();
        for other in schema.fields().iter() {
            if other.name() == field.name() {
                stored = Some(to_physical(&column.name, &values, physical, &mut self.categories)?);
            } else if count_dictionaries(other.data_type()) > 0 {
                self.note_no_categories(other)?;
            }
        }
        let stored = stored.ok_or_else(|| Error::internal("a changed column is not in its schema"))?;
        let remainder = stored.remainder.map(|rest| (known.remainder_name(), rest));
        let assigned = column.assigned.clone();
        Ok(Some(EditedColumn { name: physical_name, values: stored.values, remainder, assigned }))
    }

    fn note_no_categories(&mut self, field: &Field) -> Result<()> {
        let physical = self.form.columns.find(field.name()).and_then(|column| column.physical.clone());
        let Some(physical) = physical else { return Ok(()) };
        to_physical(field.name(), &new_empty_array(field.data_type()), &physical, &mut self.categories).map(drop)
    }

    /// Checks each value against the type that its column has in the version of its row.
    fn check_versions(
        &self,
        column: &str,
        values: &ArrayRef,
        assigned: &BooleanArray,
        loads: &Int64Array,
    ) -> Result<()> {
        let mut rows: HashMap<i64, Vec<u32>> = HashMap::new();
        for (row, load) in loads.values().iter().enumerate().filter(|(row, _)| assigned.value(*row)) {
            rows.entry(*load).or_default().push(row as u32);
        }
        for (load, rows) in rows {
            let Some(version) = self.by_load.get(&load) else { continue };
            // A column that came later may get values here all the same: the union has them.
            let Ok(field) = version.schema.field_with_name(column) else { continue };
            let values = take(values, &UInt32Array::from(rows), None);
            let values = values.map_err(|error| Error::internal("values could not be picked").because(error))?;
            check_version(&values, field, version.record.version)?;
        }
        Ok(())
    }

    /// Stores rows whose partition may have changed.
    async fn store_moved(&mut self, moved: Vec<RecordBatch>) -> Result<()> {
        if moved.is_empty() {
            return Ok(());
        }
        let (form, settings) = (self.form.clone(), self.settings.clone());
        let ready = on_thread(move || {
            let placed = moved.iter().map(|batch| form.placed(batch)).collect::<Result<Vec<_>>>()?;
            form.split(&placed, settings)
        });
        let ready = ready.await?;
        let (store, root) = (Arc::clone(self.dataset.store()), self.dataset.root().clone());
        let (stored, keys) = (Arc::clone(&self.form.stored), self.form.keys.clone());
        let mut writer = ChunkWriter::new(store, root, stored, keys.into(), LoadColumn::InBatches);
        match submit_all(&mut writer, ready).await {
            Ok(chunks) => {
                self.adds.extend(chunks.into_iter().map(|chunk| (chunk, 0)));
                Ok(())
            }
            Err(error) => {
                writer.abandon().await;
                Err(error)
            }
        }
    }
}

/// What an edit leaves of a chunk.
struct Edited {
    stays: Option<WrittenChunk>,
    moved: Vec<RecordBatch>,
    touched: usize,
}

/// Makes a chunk anew; `None` when none of its rows is meant.
async fn edit_chunk(dataset: &Dataset, form: StoredForm, chunk: &Chunk, edit: Arc<Edit>) -> Result<Option<Edited>> {
    let file = fetch(dataset, chunk).await?;
    let left = on_thread(move || if edit.touches(&file)? { edit.apply(&form, file).map(Some) } else { Ok(None) });
    let Some(Left { stays, moved, touched }) = left.await? else { return Ok(None) };
    let stays = match stays {
        Some(encoded) => Some(store_beside(dataset, chunk, encoded).await?),
        None => None,
    };
    Ok(Some(Edited { stays, moved, touched }))
}

async fn submit_all(writer: &mut ChunkWriter, ready: Vec<ReadyChunk>) -> Result<Vec<WrittenChunk>> {
    for chunk in ready {
        writer.submit(chunk).await?;
    }
    writer.finish().await
}

async fn remove_files(dataset: &Dataset, paths: Vec<String>) {
    for path in paths {
        remove_file(dataset.store(), dataset.root(), &path).await;
    }
}
