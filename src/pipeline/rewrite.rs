//! Documents made right by their ids, beside the live process (**M9**).

use super::{
    beside::Beside,
    error::PipelineError,
    keys::{self, KEYS, RowReader},
    reading,
    tables::Table,
};
use crate::{
    lanes::{Action, Change, TableNo, WindowRows},
    model::{Snapshot, Version},
    sink::Versions,
    source::{self, floor},
};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use tokio_postgres::Client;

/// Plain id, or document id, and routing.
type Place<'a> = (&'a [u8], &'a [u8]);

impl Beside {
    /// Reads the rows of `table` with these plain ids, at a floor of their own, and makes their documents so; documents
    /// under these ids and routings that have no row are deleted.
    ///
    /// # Errors
    /// As for [`Beside::fill`].
    pub(super) async fn rewrite(
        &self,
        client: &Client,
        number: TableNo,
        documents: &[Place<'_>],
    ) -> Result<(), PipelineError> {
        let table = self.tables.get(number);
        self.write(client, table, documents).await?;
        let again = self.again(client).await?;
        self.delete_gone(client, table, documents, again).await
    }

    /// As [`Beside::rewrite`], but a document without a row stays as it is: not every way in which rows go is followed.
    ///
    /// # Errors
    /// As for [`Beside::fill`].
    pub(super) async fn rewrite_found(
        &self,
        client: &Client,
        number: TableNo,
        documents: &[Place<'_>],
    ) -> Result<(), PipelineError> {
        let table = self.tables.get(number);
        let found = self.write(client, table, documents).await?;
        if table.append_only {
            // That of a row that goes meanwhile stays too.
            return Ok(());
        }
        let found: Vec<Place<'_>> = found.iter().map(|(plain, routing)| (&plain[..], &routing[..])).collect();
        let again = self.again(client).await?;
        self.delete_gone(client, table, &found, again).await
    }

    /// Writes the rows with these plain ids at a floor of their own; returns plain ids and routings of those that there are.
    async fn write(
        &self,
        client: &Client,
        table: &Table,
        documents: &[Place<'_>],
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, PipelineError> {
        let version = self.new_floor(client).await?;
        let actions = WindowRows::new(Snapshot::of_everything(), version);
        let mut found = vec![];
        for chunk in documents.chunks(KEYS) {
            let plain: Vec<&[u8]> = chunk.iter().map(|(plain, _)| *plain).collect();
            let (read, rows) = keys::rows_of(client, table, &plain).await?;
            self.high.cover(read).await;
            let mut reader = RowReader::default();
            for line in rows {
                self.write_row(table, &line, &mut reader, &actions).await?;
                found.push((reader.ids.plain.clone(), reader.ids.routing.clone()));
            }
        }
        actions.answered().await;
        Ok(found)
    }

    /// The same for document ids, whatever they are made of: where a key cannot be told from its id, the keys of the whole
    /// table are listed.
    ///
    /// # Errors
    /// As for [`Beside::fill`].
    pub(super) async fn rewrite_ids(
        &self,
        client: &Client,
        number: TableNo,
        ids: &[Place<'_>],
    ) -> Result<(), PipelineError> {
        let table = self.tables.get(number);
        let mut known: Vec<(Vec<u8>, &[u8])> = vec![];
        let mut hashed: Vec<Place<'_>> = vec![];
        for &(id, routing) in ids {
            match keys::plain_of_id(table, id) {
                Some(plain) => known.push((plain.to_vec(), routing)),
                None => hashed.push((id, routing)),
            }
        }
        let mut gone = vec![];
        if !hashed.is_empty() {
            let version = self.new_floor(client).await?;
            let plain = keys::plain_of_ids(client, table, hashed.iter().map(|(id, _)| *id)).await?;
            // That a row is gone may be a commit that a crash or a failover takes back.
            let end = source::position::log_end(&self.primary).await?.insert;
            floor::wait_flushed_up_to(&self.primary, end).await?;
            self.high.cover(end).await;
            for &(id, routing) in &hashed {
                match plain.get(id) {
                    Some(plain) => known.push((plain.clone(), routing)),
                    None => gone.push((id, routing)),
                }
            }
            let actions = WindowRows::new(Snapshot::of_everything(), version);
            for &(id, routing) in &gone {
                let target = &table.target;
                let delete = Action { target, id, plain_id: id, routing, version, change: Change::Delete };
                reading::queue(&self.lanes, &delete, &actions).await;
            }
            actions.answered().await;
        }
        let known: Vec<Place<'_>> = known.iter().map(|(plain, routing)| (&plain[..], *routing)).collect();
        if known.is_empty() { Ok(()) } else { self.rewrite(client, number, &known).await }
    }

    /// Of the documents that `query` finds, makes those right that are older than this writer's floor: the windows that were
    /// read before did not have their rows. A row may have moved, unseen without a stream, from a window that was still to be
    /// read into one that was; so each is looked up before it goes.
    ///
    /// # Errors
    /// As for [`Beside::fill`].
    pub(super) async fn rewrite_older(
        &self,
        client: &Client,
        number: TableNo,
        query: &Value,
    ) -> Result<u64, PipelineError> {
        let (table, mut looked_up) = (self.tables.get(number), 0);
        let mut listing = Versions::of_query(&self.client, &table.target.index, query).await?;
        while let Some(page) = listing.next_page().await? {
            let old = page.iter().filter(|d| table.is_swept(d.version, self.version));
            let ids: Vec<Place<'_>> = old.map(|d| (d.id.as_bytes(), d.routing())).collect();
            if !ids.is_empty() {
                self.rewrite_ids(client, number, &ids).await?;
            }
            looked_up += ids.len() as u64;
        }
        Ok(looked_up)
    }

    /// Deletes those of `documents` (plain id and routing) that have no row, and moves those that are routed to another
    /// shard since, at `version`.
    pub(super) async fn delete_gone(
        &self,
        client: &Client,
        table: &Table,
        documents: &[Place<'_>],
        version: Version,
    ) -> Result<(), PipelineError> {
        let (target, plan, columns) = (&table.target, &table.plan, table.schema.columns.len());
        let actions = WindowRows::new(Snapshot::of_everything(), version);
        let (mut reader, mut id) = (RowReader::default(), vec![]);
        for chunk in documents.chunks(KEYS) {
            let plain: HashSet<&[u8]> = chunk.iter().map(|(plain, _)| *plain).collect();
            let plain: Vec<&[u8]> = plain.into_iter().collect();
            let (read, rows) = keys::rows_of(client, table, &plain).await?;
            let mut current: HashMap<Vec<u8>, (Vec<u8>, Bytes)> = HashMap::new();
            for line in rows {
                let ids = reader.ids(table, plan, columns, &line)?;
                current.insert(ids.plain.clone(), (ids.routing.clone(), line));
            }
            self.high.cover(read).await;
            for &(plain_id, routing) in chunk {
                let now = current.get(plain_id);
                if now.is_some_and(|(now, _)| now == routing) {
                    continue;
                }
                plan.id_of_plain(plain_id, &mut id);
                // Above every commit that the lookup sees, and below the row that may now be routed to the same shard.
                let gone = if now.is_some() { version.below() } else { version };
                let delete =
                    Action { target, id: &id, plain_id, routing, version: gone, change: Change::Delete };
                reading::queue(&self.lanes, &delete, &actions).await;
                let Some((_, line)) = now else { continue };
                self.write_row(table, line, &mut reader, &actions).await?;
            }
        }
        actions.answered().await;
        Ok(())
    }

    async fn write_row(
        &self,
        table: &Table,
        line: &[u8],
        reader: &mut RowReader,
        actions: &WindowRows,
    ) -> Result<(), PipelineError> {
        let plan = &table.plan;
        let wrong = |what: &str| keys::bad(table, what);
        let RowReader { decoder, ids } = reader;
        let row = decoder.decode(line, table.schema.columns.len()).map_err(|e| wrong(&e.to_string()))?;
        plan.write_id(&row, ids).map_err(|_| wrong("a key column is missing"))?;
        let mut document = vec![];
        let refusal =
            plan.write_fitting_document(&row, self.config.bulk.max_document_bytes, &mut document).err();
        let change = match &refusal {
            None => Change::Index(&document),
            Some(reason) => Change::Refused { reason, document: &document },
        };
        let (target, version) = (&table.target, actions.version());
        let action =
            Action { target, id: &ids.id, plain_id: &ids.plain, routing: &ids.routing, version, change };
        reading::queue(&self.lanes, &action, actions).await;
        Ok(())
    }
}
