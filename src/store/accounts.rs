//! Agents as accounts: finding one at login, a new password.

use desk::id::{AgentId, Entropy, SiteId};
use desk::settings::Role;
use sqlx::Row as _;

use super::{Store, StoreError, random};

/// What a login needs to know of an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    /// Who it is.
    pub(crate) id: AgentId,
    /// As others see him.
    pub(crate) name: String,
    /// What he may do.
    pub(crate) role: Role,
    /// Argon2id in PHC form.
    pub(crate) password: String,
    /// Goes into the ticket.
    pub(crate) session_epoch: u32,
}

/// An agent who is to be added.
pub(crate) struct NewAgent<'a> {
    /// Where he logs in with.
    pub(crate) email: &'a str,
    /// As others see him.
    pub(crate) name: &'a str,
    /// What he may do.
    pub(crate) role: Role,
    /// Argon2id in PHC form.
    pub(crate) password: &'a str,
    /// Conversations he takes at once, 0 to 500.
    pub(crate) capacity: u16,
}

pub(super) fn role(text: &str) -> Result<Role, StoreError> {
    match text {
        "agent" => Ok(Role::Agent),
        "admin" => Ok(Role::Admin),
        _ => Err(StoreError::Row("an agent of no known role")),
    }
}

pub(super) fn id_of(bytes: &[u8]) -> Option<u128> {
    Some(u128::from_be_bytes(bytes.try_into().ok()?))
}

impl Store {
    /// The enabled account with this address, in any case.
    pub(crate) async fn account(&self, email: &str) -> Result<Option<Account>, StoreError> {
        let row = sqlx::query(
            "SELECT id, name, role, password, session_epoch FROM agent WHERE email = ? AND enabled = 1",
        )
        .bind(email)
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.failed(error))?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Account {
            id: id_of(row.get(0))
                .and_then(AgentId::from_bits)
                .ok_or(StoreError::Row("an agent's id of another kind"))?,
            name: row.get(1),
            role: role(row.get(2))?,
            password: row.get(3),
            session_epoch: row.get::<u32, _>(4),
        }))
    }

    /// Adds an agent. `false`: somebody has this address, in whatever case.
    pub(crate) async fn add_agent(&self, new: &NewAgent<'_>, now_ms: u64) -> Result<bool, StoreError> {
        let failed = |error| self.failed(error);
        let mut entropy = Entropy::new(random()?);
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let site: Option<Vec<u8>> = sqlx::query_scalar("SELECT id FROM site")
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        let site =
            site.as_deref().and_then(id_of).and_then(SiteId::from_bits).ok_or(StoreError::Row("no site"))?;
        let id = AgentId::mint(site.slot(), &mut entropy).bits().to_be_bytes();
        let role = match new.role {
            Role::Agent => "agent",
            Role::Admin => "admin",
        };
        let added = sqlx::query(
            "INSERT INTO agent (id, email, name, role, password, capacity, made_ms) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (email) DO NOTHING",
        )
        .bind(id.as_slice())
        .bind(new.email)
        .bind(new.name)
        .bind(role)
        .bind(new.password)
        .bind(new.capacity)
        .bind(now_ms as i64)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?
        .rows_affected();
        sqlx::query("UPDATE counter SET value = value + 1 WHERE name = 'changes'")
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(added == 1)
    }

    /// Sets the password and ends all sessions of the agent. `false`: nobody has this address.
    pub(crate) async fn set_password(&self, email: &str, password: &str) -> Result<bool, StoreError> {
        let failed = |error| self.failed(error);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let found =
            sqlx::query("UPDATE agent SET password = ?, session_epoch = session_epoch + 1 WHERE email = ?")
                .bind(password)
                .bind(email)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?
                .rows_affected();
        sqlx::query("UPDATE counter SET value = value + 1 WHERE name = 'changes'")
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(found == 1)
    }
}
