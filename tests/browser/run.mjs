// A visitor and an agent chat in two browsers through the real server, which is killed in the middle of it.
//
//   SERVER_BIN=…/ringdesk node run.mjs        SHARDS (2), CHROMIUM (/usr/bin/chromium), OUT (./out: screenshots)

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import {
  NARROW,
  WIDE,
  acceptRow,
  bodies,
  burst,
  crowd,
  flaw,
  listed,
  logIn,
  openRow,
  ready,
  showAll,
  transcript,
  unconfirmed,
  until,
  write,
} from './pages.mjs';
import { Server } from './server.mjs';

const WHOLE_RUN_MS = 240_000;
const KILLS = 3;
const BURST = 12;

const bin = process.env.SERVER_BIN;
const browserPath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const shards = Number(process.env.SHARDS ?? 2);
const out = path.resolve(process.env.OUT ?? path.join(import.meta.dirname, 'out'));
if (bin === undefined || !fs.existsSync(bin)) {
  console.error('SERVER_BIN must name the ringdesk binary: cargo build --release, then SERVER_BIN=target/release/ringdesk');
  process.exit(2);
}
if (!fs.existsSync(browserPath)) {
  console.error(`no ${browserPath}: apt-get install chromium, or set CHROMIUM`);
  process.exit(2);
}
fs.mkdirSync(out, { recursive: true });
const dataDir = fs.mkdtempSync(path.join(os.tmpdir(), 'ringdesk-browser-'));

let passed = 0;
let failed = 0;
const pages = {};
const faults = [];

const check = async (sentence, fn) => {
  try {
    await fn();
    passed += 1;
    console.log(`ok      ${sentence}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${sentence}\n        ${String(error.message).replaceAll('\n', '\n        ')}`);
    for (const [name, page] of Object.entries(pages)) {
      await page.screenshot({ path: path.join(out, `failed-${failed}-${name}.png`) }).catch(() => undefined);
    }
  }
};
const expect = (truth, otherwise) => {
  if (!truth) throw new Error(otherwise);
};

const server = await Server.prepare(bin, dataDir, shards);
const browser = await chromium.launch({ executablePath: browserPath, args: ['--no-sandbox', '--disable-dev-shm-usage'] });

const finish = async () => {
  await browser.close().catch(() => undefined);
  await server.kill();
  fs.writeFileSync(path.join(out, 'server.log'), server.output);
  fs.rmSync(dataDir, { recursive: true, force: true });
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
};
setTimeout(() => {
  failed += 1;
  console.log(`FAILED  the whole run takes less than ${WHOLE_RUN_MS / 1_000} s`);
  void finish();
}, WHOLE_RUN_MS).unref();

/** A page in a browser of its own; `name` is for screenshots and faults. */
const open = async (name, url, context) => {
  const own = context ?? (await browser.newContext({ viewport: WIDE, locale: 'en-US' }));
  const page = await own.newPage();
  page.setDefaultTimeout(10_000);
  page.on('pageerror', (error) => faults.push(`${name}: ${error.message}`));
  page.on('console', (message) => {
    // A server that is down is part of the test.
    if (message.type() === 'error' && !/ERR_|WebSocket|Failed to load resource/.test(message.text())) {
      faults.push(`${name}: ${message.text()}`);
    }
  });
  await page.goto(url);
  pages[name] = page;
  return page;
};
const shot = (page, name) => page.screenshot({ path: path.join(out, `${name}.png`) });
const count = (list, value) => list.filter((one) => one === value).length;

let visitor;
let agent;
let second;
let c;

try {
  await check('the server starts and prints the pages and the first login', async () => {
    await server.start();
    expect(server.login !== undefined, `no login in:\n${server.output}`);
  });

  await check('the first agent logs in with what was printed', async () => {
    agent = await open('agent', server.agentUrl);
    await shot(agent, 'agent-login');
    await logIn(agent, { ...server.login, password: 'certainly wrong' }).catch(() => undefined);
    expect(await agent.isVisible('.login-error'), 'a wrong password is not told');
    await logIn(agent, server.login);
    await ready(agent);
    await shot(agent, 'agent-empty');
  });

  // As long as he is away nothing is offered to him, and those who come wait.
  await check('an agent can be away', () => agent.selectOption('.own select', 'away'));

  await check('the first words of a visitor make a conversation, which the waiting list shows at once', async () => {
    visitor = await open('visitor', server.visitorUrl);
    await ready(visitor);
    await shot(visitor, 'visitor-hello');
    await write(visitor, 'hello, is anybody there?');
    const row = await until('a row that waits', async () => (await listed(agent, 'waiting'))[0]);
    c = row.c;
    await until('its preview', async () => (await listed(agent, 'waiting'))[0]?.preview === 'hello, is anybody there?');
    await until('a confirmed message', async () => (await unconfirmed(visitor)).length === 0);
    await until('the visitor is next', async () => /next/i.test(await visitor.textContent('.subtitle')));
  });

  await check('a second visitor is told that he is number 2, and stands behind the first', async () => {
    second = await open('second', server.visitorUrl);
    await write(second, 'me too');
    await until('number 2', async () => (await second.textContent('.subtitle')).includes('2'));
    const previews = (await listed(agent, 'waiting')).map((row) => row.preview);
    expect(previews.join('|') === 'hello, is anybody there?|me too', `the list is ${previews.join('|')}`);
    await shot(second, 'visitor-queue');
  });

  await check('the head of the queue, and nobody else, is offered to the agent who comes online', async () => {
    await agent.selectOption('.own select', 'online');
    const rows = await until('an offer', async () => {
      const now = await listed(agent, 'waiting');
      return now.some((row) => row.offered) && now;
    });
    expect(rows[0].offered && !rows[1].offered, 'the offer is not for the first');
    await shot(agent, 'agent-offer');
  });

  await check('accepting opens the conversation on both sides, and the second visitor moves up', async () => {
    await acceptRow(agent, c);
    await agent.waitForSelector('.pane-full:not([hidden])');
    await until('it is his', async () => (await listed(agent, 'mine')).some((row) => row.c === c));
    await visitor.waitForSelector('body[data-status=open]');
    await until('the second is next', async () => /next/i.test(await second.textContent('.subtitle')));
    await until('the agent reads the first words', async () => (await bodies(agent))[0] === 'hello, is anybody there?');
  });

  await check('they talk both ways, and line breaks and other scripts arrive as they were written', async () => {
    await write(agent, 'Hello! How can I help?');
    await visitor.fill('textarea', 'two\nlines 你好 😀 <b>not bold</b>');
    await visitor.press('textarea', 'Enter');
    await until('the visitor reads', async () => (await bodies(visitor)).includes('Hello! How can I help?'));
    await until('the agent reads', async () => (await bodies(agent)).includes('two\nlines 你好 😀 <b>not bold</b>'));
    expect((await agent.locator('.bubble b').count()) === 0, 'text was read as HTML');
  });

  await check('each sees that the other is typing, and that it ends', async () => {
    await visitor.locator('textarea').pressSequentially('I am wri');
    await agent.waitForSelector('.typing:not([hidden])');
    await visitor.fill('textarea', '');
    await agent.waitForSelector('.typing', { state: 'hidden' });
    await agent.locator('textarea').pressSequentially('One mo');
    await visitor.waitForSelector('.typing:not([hidden])');
    await shot(visitor, 'visitor-typing');
    await agent.fill('textarea', '');
    await visitor.waitForSelector('.typing', { state: 'hidden' });
  });

  await check('each sees that the other has seen his message', async () => {
    for (const page of [visitor, agent]) {
      await until('seen', async () => {
        const mine = (await transcript(page)).filter((r) => r.tick !== undefined);
        return mine.length > 0 && mine.every((r) => r.tick === 'seen');
      });
    }
  });

  await check('a note is for agents: the visitor never gets it, and his numbers have no gap', async () => {
    await agent.click('.mode-note');
    await write(agent, 'note: be careful with this one');
    await until('the note is kept', async () => (await transcript(agent)).some((r) => r.kind === 'note' && r.s));
    await agent.click('.mode:not(.mode-note)');
    await write(agent, 'after the note');
    await until('the message after it', async () => (await bodies(visitor)).includes('after the note'));
    // The visitor, on another shard, may hear it before the agent's own answer is there, and until then the agent's row has no number.
    await until('the agent’s page knows its number', async () => (await unconfirmed(agent)).length === 0);
    expect(!(await visitor.content()).includes('be careful'), 'the note is on the visitor’s page');
    expect(flaw(await transcript(visitor)) === undefined, flaw(await transcript(visitor)));
    expect(flaw(await transcript(agent)) === undefined, flaw(await transcript(agent)));
    await shot(agent, 'agent-chat');
    await shot(visitor, 'visitor-chat');
  });

  await check('what comes into a conversation that is not on the screen is counted as unread', async () => {
    const other = (await until('the second waits', async () => (await listed(agent, 'waiting'))[0])).c;
    await acceptRow(agent, other);
    await second.waitForSelector('body[data-status=open]');
    await until('it is on the screen', async () => (await bodies(agent)).includes('me too'));
    await write(visitor, 'are you still there?');
    await until('1 unread', async () => (await listed(agent, 'mine')).find((row) => row.c === c)?.unread === '1');
    await shot(agent, 'agent-unread');
    await openRow(agent, c);
    await until('none unread', async () => (await listed(agent, 'mine')).find((row) => row.c === c)?.unread === undefined);
  });

  await check('the agent closes; the visitor’s next words reopen it and it waits again', async () => {
    await agent.click('.close-conversation');
    await visitor.waitForSelector('body[data-status=closed]');
    await shot(visitor, 'visitor-closed');
    await write(visitor, 'one more thing');
    await visitor.waitForSelector('body[data-status=waiting]');
    await until('it waits', async () => (await listed(agent, 'waiting')).some((row) => row.c === c));
    await acceptRow(agent, c);
    await visitor.waitForSelector('body[data-status=open]');
  });

  await check('the visitor ends the chat, comes back, and is accepted again', async () => {
    await visitor.click('.end');
    await visitor.click('dialog .primary');
    await visitor.waitForSelector('body[data-status=closed]');
    await until('the agent sees it', async () => !(await listed(agent, 'mine')).some((row) => row.c === c));
    await write(visitor, 'sorry, that was a mistake');
    await until('it waits', async () => (await listed(agent, 'waiting')).some((row) => row.c === c));
    await acceptRow(agent, c);
    await visitor.waitForSelector('body[data-status=open]');
  });

  const said = { visitor: [], agent: [] };
  /** Both transcripts: every message once, in the order of its speaker, numbers without a gap, the same on both pages. */
  const compare = async () => {
    const onVisitor = await transcript(visitor);
    const onAgent = await transcript(agent);
    for (const [name, rows] of [['visitor', onVisitor], ['agent', onAgent]]) {
      const wrong = flaw(rows);
      expect(wrong === undefined, `on the ${name}’s page: ${wrong}`);
      for (const [speaker, texts] of Object.entries(said)) {
        const heard = rows.filter((r) => texts.includes(r.body)).map((r) => r.body);
        expect(heard.join('\n') === texts.join('\n'), `on the ${name}’s page the ${speaker}’s words are ${heard.join(' ')}`);
      }
    }
    const shared = (rows) => rows.filter((r) => r.kind === 'message').map((r) => r.body).join('\n');
    expect(shared(onVisitor) === shared(onAgent), 'the two pages show another order');
  };
  const settled = async () => {
    for (const [name, page] of [['visitor', visitor], ['agent', agent]]) {
      await until(`nothing of the ${name}’s is left to send`, async () => (await unconfirmed(page)).length === 0, 45_000);
      await until(
        `the ${name} has everything`,
        async () => {
          const all = await bodies(page);
          return [...said.visitor, ...said.agent].every((text) => all.includes(text));
        },
        20_000,
      );
    }
  };

  let unanswered = 0;
  for (let round = 1; round <= KILLS; round += 1) {
    await check(`kill -9 between send and ack, round ${round}: both pages go on by themselves, nothing lost, nothing twice`, async () => {
      const words = (who) => Array.from({ length: BURST }, (_, i) => `${who} ${round}.${i + 1}`);
      const [fromVisitor, fromAgent] = [words('V'), words('A')];
      said.visitor.push(...fromVisitor);
      said.agent.push(...fromAgent);
      // Later rounds die a little later, so that the crash meets other moments of a message's life.
      await Promise.all([burst(visitor, fromVisitor), burst(agent, fromAgent)]);
      await new Promise((resolve) => setTimeout(resolve, 4 * (round - 1)));
      await server.kill();
      unanswered += (await unconfirmed(visitor)).length + (await unconfirmed(agent)).length;
      await until('the visitor is told', () => visitor.isVisible('.banner'));
      if (round === 1) {
        await shot(visitor, 'visitor-server-down');
        await shot(agent, 'agent-server-down');
      }
      const offline = `V ${round} said while the server was down`;
      said.visitor.push(offline);
      await write(visitor, offline);
      await server.start();
      await settled();
      await compare();
    });
  }
  await check('the kills met messages that were sent and not answered', () => {
    expect(unanswered > 0, 'every message was answered before the kill: the rounds above showed nothing');
  });

  await check('words that were sent and never answered survive closing the page', async () => {
    server.freeze();
    const last = 'V said before the page was closed';
    said.visitor.push(last);
    await write(visitor, last);
    await until('it is under way', async () => (await unconfirmed(visitor)).length === 1);
    const context = visitor.context();
    await server.kill();
    await visitor.close();
    await server.start();
    visitor = await open('visitor', server.visitorUrl, context);
    await until('the transcript', async () => (await transcript(visitor)).length > 0);
    await showAll(visitor);
    await settled();
    await compare();
  });

  await check('a second tab of the visitor shows the same, and hears what the first one says', async () => {
    const tab = await open('tab', server.visitorUrl, visitor.context());
    await until('the transcript', async () => (await transcript(tab)).length > 0);
    await write(visitor, 'from the first tab');
    await until('heard', async () => (await bodies(tab)).includes('from the first tab'));
    await write(tab, 'from the second tab');
    await until('heard', async () => (await bodies(visitor)).includes('from the second tab'));
    expect(count(await bodies(visitor), 'from the first tab') === 1, 'shown twice');
    expect(count(await bodies(tab), 'from the second tab') === 1, 'shown twice');
    said.visitor.push('from the first tab', 'from the second tab');
    delete pages.tab;
    await tab.close();
  });

  await check('the agent reloads and is still logged in, with the same conversations and the same transcript', async () => {
    await agent.reload();
    await agent.waitForSelector('.desk:not([hidden])');
    await until('his conversation', async () => (await listed(agent, 'mine')).some((row) => row.c === c));
    await openRow(agent, c);
    await until('the transcript', async () => (await transcript(agent)).length > 0);
    await showAll(agent);
    await settled();
    await compare();
  });

  await check('an orderly stop ends with status 0, and both pages come back after it', async () => {
    const status = await server.end('SIGTERM');
    expect(status === 0, `the status is ${status}`);
    said.agent.push('A wrote during the restart');
    await write(agent, 'A wrote during the restart');
    await server.start();
    await settled();
    await compare();
  });

  await check('more wait than a list shows: the page says how many, they move up as others are served, and one may see more', async () => {
    const before = (await listed(agent, 'waiting')).length;
    await crowd(visitor, 212 - before);
    await agent.reload();
    await agent.waitForSelector('.desk:not([hidden])');
    const waiting = async () => ({
      rows: (await listed(agent, 'waiting')).length,
      total: Number(await agent.textContent('section.waiting .section-count')),
      words: (await agent.locator('section.waiting .none:visible').allTextContents()).join(),
    });
    const shows = (total, more) =>
      until(`200 rows of ${total}`, async () => {
        const { rows, total: said, words } = await waiting();
        return rows === 200 && said === total && words.includes(`More waiting: ${more}.`) && words.includes('first 200');
      });
    await shows(212, 12);
    await shot(agent, 'agent-many');
    for (let n = 0; n < 3; n += 1) {
      const { c: first } = (await listed(agent, 'waiting'))[0];
      await acceptRow(agent, first);
      await until('it is his', async () => (await listed(agent, 'mine')).some((row) => row.c === first));
    }
    await shows(209, 9);
    await agent.click('section.waiting .show-more');
    await until('all of them', async () => {
      const { rows, total, words } = await waiting();
      return rows === 209 && total === 209 && words === '';
    });
    expect(!(await agent.isVisible('section.waiting .show-more')), 'there is no more to show');
    const places = await agent.locator('section.waiting .row .dot').allTextContents();
    expect(places.join() === Array.from({ length: 209 }, (_, n) => n + 1).join(), 'the places are counted on');
    await shot(agent, 'agent-many-more');
  });

  await check('both pages in Chinese, narrow and dark', async () => {
    for (const [name, page] of [['visitor', visitor], ['agent', agent]]) {
      await page.bringToFront();
      await page.locator('.language:visible').click();
      expect((await page.getAttribute('html', 'lang')) === 'zh-CN', 'the language did not change');
      await shot(page, `${name}-zh`);
      await page.setViewportSize(NARROW);
      await shot(page, `${name}-zh-narrow`);
      await page.emulateMedia({ colorScheme: 'dark' });
      await shot(page, `${name}-zh-narrow-dark`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
      expect(!wide, `the ${name}’s page is wider than a narrow window`);
    }
    await agent.click('.back');
    await agent.locator('.language:visible').click();
    await shot(agent, 'agent-narrow-list');
  });

  await check('logging out leaves nothing of the session in the tab', async () => {
    await agent.getByText('Log out').click();
    await agent.waitForSelector('.login:not([hidden])');
    await agent.reload();
    await agent.waitForSelector('.login:not([hidden])');
  });

  await check('no page had a script error or broke its content policy', () => {
    expect(faults.length === 0, faults.join('\n'));
  });
} finally {
  await finish();
}
