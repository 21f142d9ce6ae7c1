//! The settings that shards get: what the database knows, and what the configuration says.

use desk::id::{AgentId, InboxId, SiteId};
use desk::settings::{Agent, Inbox, Limits, MAX_KEYS, Settings, SigningKey};
use sqlx::Row as _;

use super::accounts::{id_of, role};
use super::{Store, StoreError};
use crate::config::Config;

/// What the database knows of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    site: SiteId,
    keys: Vec<SigningKey>,
    inboxes: Vec<Inbox>,
    agents: Vec<Agent>,
}

impl Known {
    /// The part of existing settings that came from the database.
    pub(crate) fn of(settings: &Settings) -> Known {
        Known {
            site: settings.site,
            keys: settings.keys.clone(),
            inboxes: settings.inboxes.clone(),
            agents: settings.agents.clone(),
        }
    }

    /// The site.
    pub(crate) fn site(&self) -> SiteId {
        self.site
    }

    /// The whole, with the configuration's part laid over it. The version rises above `last` if anything differs from it.
    pub(crate) fn with(self, config: &Config, last: Option<&Settings>) -> Settings {
        let mut settings = Settings {
            version: last.map_or(1, |last| last.version),
            site: self.site,
            keys: self.keys,
            inboxes: self.inboxes,
            agents: self.agents,
            limits: limits(config),
        };
        // The configuration speaks of the first inbox; others have only what the database says.
        if let Some(first) = settings.inboxes.first_mut() {
            first.origins = config.security.origins.iter().map(|origin| origin.0.clone()).collect();
        }
        if last.is_some_and(|last| *last != settings) {
            settings.version += 1;
        }
        settings
    }
}

/// The bounds of sessions as the configuration says.
pub(crate) fn limits(config: &Config) -> Limits {
    Limits {
        heartbeat_ms: config.session.heartbeat_ms.0,
        resume_ttl_visitor_ms: config.session.resume_ttl_visitor_ms.0,
        resume_ttl_agent_ms: config.session.resume_ttl_agent_ms.0,
        inflight_visitor: config.session.inflight_visitor,
        inflight_agent: config.session.inflight_agent,
        outbox_bytes: config.limits.outbox_kib * 1024,
        stuck_ms: config.session.stuck_ms.0,
        auth_ms: config.session.auth_ms.0,
        offer_ttl_ms: config.routing.offer_ttl_ms.0,
        message_rate_per_s: config.limits.message_rate,
        message_burst: config.limits.message_burst,
        request_rate_per_s: config.limits.request_rate,
        request_burst: config.limits.request_burst,
        rate_strikes: config.limits.rate_strikes,
    }
}

impl Store {
    /// Reads what shards should know.
    pub(crate) async fn known(&self) -> Result<Known, StoreError> {
        let failed = |error| self.failed(error);
        // One transaction: the parts belong together.
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let site: Option<Vec<u8>> = sqlx::query_scalar("SELECT id FROM site")
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        let site = site.ok_or(StoreError::Row("no site"))?;
        let site =
            id_of(&site).and_then(SiteId::from_bits).ok_or(StoreError::Row("a site's id of another kind"))?;

        let rows = sqlx::query("SELECT id, secret FROM signing_key ORDER BY id DESC LIMIT ?")
            .bind(MAX_KEYS as i64)
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed)?;
        let keys = rows.iter().map(|row| {
            let secret =
                <[u8; 32]>::try_from(row.get::<&[u8], _>(1)).map_err(|_| StoreError::Row("a short key"))?;
            Ok(SigningKey { id: row.get::<u32, _>(0), secret })
        });
        let keys = keys.collect::<Result<Vec<_>, StoreError>>()?;

        let rows = sqlx::query("SELECT id, name, origins, enabled FROM inbox ORDER BY place")
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed)?;
        let inboxes = rows.iter().map(|row| {
            let id = id_of(row.get(0)).and_then(InboxId::from_bits);
            Ok(Inbox {
                id: id.ok_or(StoreError::Row("an inbox's id of another kind"))?,
                name: row.get(1),
                origins: row.get::<&str, _>(2).lines().map(str::to_owned).collect(),
                enabled: row.get(3),
            })
        });
        let inboxes = inboxes.collect::<Result<Vec<_>, StoreError>>()?;

        let rows = sqlx::query(
            "SELECT id, name, role, session_epoch, capacity, enabled FROM agent ORDER BY made_ms, id",
        )
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
        let agents = rows.iter().map(|row| {
            let id = id_of(row.get(0)).and_then(AgentId::from_bits);
            Ok(Agent {
                id: id.ok_or(StoreError::Row("an agent's id of another kind"))?,
                name: row.get(1),
                role: role(row.get(2))?,
                session_epoch: row.get::<u32, _>(3),
                capacity: row.get::<u16, _>(4),
                enabled: row.get(5),
            })
        });
        let agents = agents.collect::<Result<Vec<_>, StoreError>>()?;
        Ok(Known { site, keys, inboxes, agents })
    }

    /// The version of the settings that shards were last given, as far as the database knows.
    pub(crate) async fn settings_version(&self) -> Result<u64, StoreError> {
        Ok(self.counter("settings").await? as u64)
    }

    /// Keeps the version, which outlives settings.bin.
    pub(crate) async fn keep_settings_version(&self, version: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE counter SET value = max(value, ?) WHERE name = 'settings'")
            .bind(version as i64)
            .execute(&self.pool)
            .await
            .map_err(|error| self.failed(error))?;
        Ok(())
    }
}
