//! The tables that lie in a storage place, found without any record of them.

use object_store::ObjectStore;
use object_store::path::Path;

use super::{Storage, StorageKind, store_error};
use crate::config::TENANT_PLACE;
use crate::error::Result;
use crate::names::TenantId;

impl Storage {
    /// The folders of all tenants' tables. Where tenants have buckets of their own, no listing finds those: then the
    /// folders of `tenants`.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the storage does not answer.
    pub async fn tenant_roots(&self, tenants: &[TenantId]) -> Result<Vec<Path>> {
        let (before, after) = self.tables.split_once(TENANT_PLACE).unwrap_or((&self.tables, ""));
        let (folder, stem) = before.rsplit_once('/').unwrap_or(("", before));
        if folder.is_empty() && matches!(self.kind, StorageKind::S3(_)) {
            return Ok(tenants.iter().map(|tenant| self.tenant_root(tenant)).collect());
        }
        let (suffix, below) = after.split_once('/').unwrap_or((after, ""));
        let found = self.folders(&Path::parse(folder).unwrap_or_default()).await?;
        let root = |found: Path| {
            let name = found.filename()?;
            let tenant = name.strip_prefix(stem)?.strip_suffix(suffix)?;
            let below = below.replace(TENANT_PLACE, tenant);
            let is_tenant = !tenant.is_empty();
            is_tenant.then(|| Path::parse(format!("{found}/{below}").trim_end_matches('/')).ok()).flatten()
        };
        Ok(found.into_iter().filter_map(root).collect())
    }

    /// The roots of the tables in the folder of a tenant.
    ///
    /// # Errors
    /// As [`Storage::tenant_roots`].
    pub async fn table_roots(&self, tenant_root: &Path) -> Result<Vec<Path>> {
        self.folders(tenant_root).await
    }

    async fn folders(&self, of: &Path) -> Result<Vec<Path>> {
        let of = (!of.as_ref().is_empty()).then_some(of);
        match self.store.list_with_delimiter(of).await {
            Ok(listed) => Ok(listed.common_prefixes),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(store_error("listing tables", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(below: &str, tenants: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open_local(folder.path(), below).unwrap();
        for tenant in tenants {
            let root = storage.table_root(&TenantId::parse(tenant).unwrap(), "01T").join("_delta_log");
            std::fs::create_dir_all(folder.path().join(root.as_ref())).unwrap();
            std::fs::write(folder.path().join(root.as_ref()).join("0.json"), "{}").unwrap();
        }
        let mut tables = Vec::new();
        for root in storage.tenant_roots(&[]).await.unwrap() {
            tables.extend(storage.table_roots(&root).await.unwrap().into_iter().map(|table| table.to_string()));
        }
        tables.sort();
        tables
    }

    #[tokio::test]
    async fn tables_are_found_wherever_tenants_stand() {
        assert_eq!(found("", &["a", "b/c"]).await, ["tenants/a/01T", "tenants/b!2Fc/01T"]);
        assert_eq!(found("df-{tenant}-x/y", &["a", "ü"]).await, ["df-!C3!BC-x/y/01T", "df-a-x/y/01T"]);
        assert_eq!(found("{tenant}/of/{tenant}", &["a"]).await, ["a/of/a/01T"]);
        assert_eq!(found("", &[]).await, [""; 0]);
    }
}
