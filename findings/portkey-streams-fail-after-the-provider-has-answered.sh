#!/bin/sh
# Portkey's gateway 1.15.2, installed from npm as its package.json asks for it (with @hono/node-server 1.19.19), in front of a
# provider on loopback, under Node 20.
#
# Expected: a stream of chat completions, as with an older node-server.
# Seen: the gateway calls the provider, which answers and would bill, and then says 500 "Something went wrong" to its
# caller; the same call without a stream is answered. With @hono/node-server 1.14.1, which the same range allows, the stream
# comes. So the same version of the gateway works or not by the day it was installed, and whoever takes a gateway's 500 for
# "nothing was used" books nothing for streams that were paid for.
set -eu

folder=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"

cat > provider.mjs <<'JS'
import http from 'node:http';
import fs from 'node:fs';
const server = http.createServer((req, res) => {
  let body = '';
  req.on('data', (d) => (body += d));
  req.on('end', () => {
    fs.appendFileSync('calls.txt', JSON.parse(body).stream ? 'stream\n' : 'whole\n');
    if (!JSON.parse(body).stream) {
      res.setHeader('content-type', 'application/json');
      res.end('{"id":"c1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Fine."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}');
      return;
    }
    res.setHeader('content-type', 'text/event-stream');
    res.write('data: {"id":"c1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"Fine."},"finish_reason":"stop"}]}\n\n');
    res.end('data: [DONE]\n\n');
  });
});
server.listen(0, '127.0.0.1', () => fs.writeFileSync('provider.port', String(server.address().port)));
JS

cat > ask.mjs <<'JS'
import fs from 'node:fs';
const [gateway, stream] = process.argv.slice(2);
const provider = fs.readFileSync('../provider.port', 'utf8');
const ask = () => fetch(`http://127.0.0.1:${gateway}/v1/chat/completions`, {
  method: 'POST',
  headers: { 'content-type': 'application/json', authorization: 'Bearer k', 'x-portkey-provider': 'openai', 'x-portkey-custom-host': `http://127.0.0.1:${provider}/v1` },
  body: JSON.stringify({ model: 'm', stream: stream === 'stream', messages: [{ role: 'user', content: 'Hello' }] }),
});
for (let tries = 0; ; tries++) {
  try {
    const resp = await ask();
    const text = await resp.text();
    console.log(resp.status, text.includes('Fine.') ? 'answered' : text);
    break;
  } catch (err) {
    if (tries > 600) throw err;
    await new Promise((r) => setTimeout(r, 100)); // the gateway is starting
  }
}
JS

node provider.mjs & pids="$!"
while [ ! -s provider.port ]; do sleep 0.1; done

# gateway FOLDER NODE_SERVER: installs and starts one, and prints what a whole reply and a stream get.
gateway() {
	mkdir "$1" && cd "$1"
	printf '{"private":true,"dependencies":{"@portkey-ai/gateway":"1.15.2"},"overrides":{"@hono/node-server":"%s","hono":"4.13.19"}}' "$2" > package.json
	npm install --no-audit --no-fund --ignore-scripts --silent
	port=$(node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})')
	node node_modules/@portkey-ai/gateway/build/start-server.js --headless --port="$port" > log.txt 2>&1 &
	pids="$pids $!"
	cp ../ask.mjs .
	node ask.mjs "$port" whole > whole.txt
	node ask.mjs "$port" stream > stream.txt
	cd ..
}

gateway newest 1.19.19
gateway older 1.14.1
echo "node-server 1.19.19: whole: $(cat newest/whole.txt); stream: $(cat newest/stream.txt)"
echo "node-server 1.14.1:  whole: $(cat older/whole.txt); stream: $(cat older/stream.txt)"
echo "calls that the provider has answered: $(tr '\n' ' ' < calls.txt)"

[ "$(cat newest/whole.txt)" = "200 answered" ]
[ "$(cat older/whole.txt) $(cat older/stream.txt)" = "200 answered 200 answered" ]
case $(cat newest/stream.txt) in "500 "*) ;; *) exit 1 ;; esac
[ "$(grep -c stream calls.txt)" = 2 ]
