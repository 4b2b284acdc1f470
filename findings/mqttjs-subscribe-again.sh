#!/usr/bin/env bash
# Guess: subscribing again to the same filter sends it to the broker, which delivers the retained messages again (MQTT-3.8.4-3).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet paho-mqtt==2.2.0
npm install --silent --prefix "$folder" mqtt@5.16.0 aedes@1.2.0
cat >"$folder/three_times.py" <<'PYTHON'
import sys, time

import paho.mqtt.client

client, messages = paho.mqtt.client.Client(paho.mqtt.client.CallbackAPIVersion.VERSION2), []
client.on_message = lambda *arguments: messages.append(arguments[2])
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
for _ in range(3):
    client.subscribe("candles/#", 1)
    time.sleep(0.5)
client.disconnect()
print(len(messages))
PYTHON
cat >"$folder/again.mjs" <<'JAVASCRIPT'
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Aedes } from "aedes";
import mqtt from "mqtt";

const version = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
const broker = await Aedes.createBroker();
const server = createServer(broker.handle).listen(0, "127.0.0.1");
await sleep(100);
const { port } = server.address();
const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`);
let sent = 0;
let received = 0;
client.on("packetsend", (packet) => (sent += packet.cmd === "subscribe"));
client.on("message", () => (received += 1));
await client.publishAsync("candles/BTC/1m", "{}", { qos: 1, retain: true });
const granted = [];
for (let n = 0; n < 3; n += 1) {
  granted.push((await client.subscribeAsync("candles/#", { qos: 1 })).length);
  await sleep(500);
}
const run = promisify(execFile);
const paho = Number((await run("venv/bin/python", ["three_times.py", String(port)])).stdout);
console.log(`broker aedes ${version("aedes")} | a retained candle received after subscribing three times | guess: 3`);
console.log(`paho-mqtt 2.2.0 | seen: ${paho}`);
console.log(`mqtt.js ${version("mqtt")} | seen: ${received} | packets sent: ${sent} | filters granted: ${granted}`);
process.exit(Number(paho !== 3 || received !== 1 || sent !== 1 || String(granted) !== "1,0,0"));
JAVASCRIPT
cd "$folder"
node again.mjs
