//! The first start: a site, an inbox, a key, and somebody who may log in. Nothing in it is the same on two installations.

use desk::id::{AgentId, Entropy, InboxId, SiteId, Slot};

use super::{Store, StoreError, random};
use crate::password;

/// The first agent's address; he changes it when administration exists.
const FIRST_EMAIL: &str = "agent@localhost";

/// Told once, by the start that makes it.
pub(crate) struct FirstLogin {
    /// The address.
    pub(crate) email: &'static str,
    /// The password, in the clear; only its hash is kept.
    pub(crate) password: String,
}

impl Store {
    /// Makes what a server needs, if nothing is there yet. All of it or nothing.
    ///
    /// The login is told before it is kept: whatever fails, at whatever moment, no account is left whose password nobody was told. Words about an account
    /// that was not made are the smaller evil: the next start makes one and tells it.
    pub(crate) async fn first_start(
        &self,
        now_ms: u64,
        capacity: u16,
        tell: impl FnOnce(&FirstLogin) -> std::io::Result<()>,
    ) -> Result<Option<FirstLogin>, StoreError> {
        let failed = |error| self.failed(error);
        if self.has_site().await? {
            return Ok(None);
        }
        let login = FirstLogin { email: FIRST_EMAIL, password: password::make()? };
        let hash = password::hash(&login.password)?;
        let mut entropy = Entropy::new(random()?);
        let slot = Slot::new((entropy.below(u64::from(desk::id::SLOT_COUNT))) as u16)
            .expect("it is below the count");
        let site = SiteId::mint(slot, &mut entropy).bits().to_be_bytes();
        let inbox = InboxId::mint(slot, &mut entropy).bits().to_be_bytes();
        let agent = AgentId::mint(slot, &mut entropy).bits().to_be_bytes();
        let secret: [u8; 32] = random()?;
        let now = now_ms as i64;

        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let there: i64 = sqlx::query_scalar("SELECT count(*) FROM site")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        if there > 0 {
            return Ok(None); // Another process was faster.
        }
        sqlx::query("INSERT INTO site (id, name, made_ms) VALUES (?, 'ringdesk', ?)")
            .bind(site.as_slice())
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query("INSERT INTO inbox (id, place, name, made_ms) VALUES (?, 1, 'Website', ?)")
            .bind(inbox.as_slice())
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query("INSERT INTO signing_key (secret, made_ms) VALUES (?, ?)")
            .bind(secret.as_slice())
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO agent (id, email, name, role, password, capacity, made_ms) VALUES (?, ?, 'Agent', 'admin', ?, ?, ?)",
        )
        .bind(agent.as_slice())
        .bind(login.email)
        .bind(hash)
        .bind(capacity)
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        tell(&login).map_err(StoreError::Untold)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Some(login))
    }

    async fn has_site(&self) -> Result<bool, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM site")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed(error))?;
        Ok(count > 0)
    }
}
