// The server under test: started, killed and started again on one data directory and port.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';

const START_WITHIN_MS = 30_000;

const freePort = async () => {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
};

export class Server {
  #bin;
  #args;
  #child;
  /** What it printed at its first start. */
  visitorUrl;
  agentUrl;
  login;
  output = '';

  static async prepare(bin, dataDir, shards) {
    const server = new Server();
    server.#bin = bin;
    const [port, admin] = [await freePort(), await freePort()];
    server.#args = [
      'serve',
      ...['--data-dir', dataDir],
      ...['--listen', `127.0.0.1:${port}`],
      ...['--admin-listen', `127.0.0.1:${admin}`],
      ...['--shards', String(shards)],
    ];
    server.base = `http://127.0.0.1:${port}`;
    return server;
  }

  /** Starts it and waits until it answers. */
  async start() {
    const child = spawn(this.#bin, this.#args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    let printed = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        this.output += text;
        if (stream === child.stdout) printed += text;
      });
    }
    let ended;
    child.once('exit', (code, signal) => (ended = `ended with ${code ?? signal}`));
    child.once('error', (error) => (ended = error.message));
    const deadline = Date.now() + START_WITHIN_MS;
    for (;;) {
      if (ended !== undefined) throw new Error(`the server ${ended}:\n${this.output.slice(-2_000)}`);
      if (Date.now() > deadline) throw new Error(`the server did not answer in time:\n${this.output.slice(-2_000)}`);
      this.#read(printed);
      if (this.agentUrl !== undefined && this.visitorUrl !== undefined && (await this.#answers())) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** SIGKILL, at once; resolves when it is gone. */
  async kill() {
    await this.end('SIGKILL');
  }

  /** Ends it with a signal; returns its exit status. */
  async end(signal) {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode;
    const gone = once(child, 'exit');
    child.kill(signal);
    const [code] = await gone;
    return code;
  }

  /** Stops it where it is (SIGSTOP): connections stay open and nothing is answered. */
  freeze() {
    this.#child.kill('SIGSTOP');
  }

  #read(printed) {
    for (const line of printed.split('\n').slice(0, -1)) {
      const url = /https?:\/\/\S+/.exec(line)?.[0];
      if (url?.includes('/chat/')) this.visitorUrl ??= url;
      else if (url !== undefined && /\/agent\b/.test(url)) this.agentUrl ??= url;
      const login = /login:\s*(\S+@\S+?)[,;]?\s+(?:password:\s*)?(\S+)/i.exec(line);
      if (login) this.login ??= { email: login[1], password: login[2] };
    }
  }

  async #answers() {
    try {
      const response = await fetch(this.agentUrl, { signal: AbortSignal.timeout(2_000) });
      return response.ok;
    } catch {
      return false;
    }
  }
}
