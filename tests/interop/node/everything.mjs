// The reference server that has a tool for each part of the protocol, `@modelcontextprotocol/server-everything`.

import assert from 'node:assert/strict';
import { ECHOES, same, textOf } from './lib.mjs';

export const name = 'mcp-servers/everything';
export const tools = ['echo', 'get-structured-content', 'get-sum', 'get-tiny-image', 'toggle-simulated-logging',
  'toggle-subscriber-updates', 'trigger-long-running-operation'];

const TEXT_RESOURCE = 'demo://resource/dynamic/text/7';
const UNUSUAL = '😀 漢字 a\u2028b\r\nc';

export async function quick(client) {
  await echo(client, 'quick');
}

async function echo(client, message) {
  same(textOf(await client.call('echo', { message })), `Echo: ${message}`);
}

export async function checks(check, client) {
  await callChecks(check, client);
  if (client.progress) await streamChecks(check, client);
  if (client.sdk) await sdkChecks(check, client);
  if (client.progress) await check('cancel', () => cancel(client));
}

/** What a client can do whose calls stand alone. */
async function callChecks(check, client) {
  await check('list resources', async () =>
    assert.ok((await client.resources()).includes('demo://resource/static/document/features.md')));
  await check('list prompts', async () => {
    const names = ['args-prompt', 'completable-prompt', 'resource-prompt', 'simple-prompt'];
    assert.deepEqual((await client.prompts()).sort(), names);
  });
  await check('prompt', async () =>
    same(await client.prompt('args-prompt', { city: '東京' }), "What's weather in 東京?"));
  for (const [name, text] of Object.entries(ECHOES)) {
    await check(`echo ${name}`, () => echo(client, text));
  }
  await check('structured content', async () => {
    const { content, structuredContent } = await client.call('get-structured-content', { location: 'Chicago' });
    assert.deepEqual(structuredContent, { temperature: 36, conditions: 'Light rain / drizzle', humidity: 82 });
    assert.deepEqual(JSON.parse(content[0].text), structuredContent);
  });
  await check('image', async () => {
    const { content: [, { type, mimeType, data }] } = await client.call('get-tiny-image');
    same(`${type} ${mimeType}`, 'image image/png');
    const bytes = Buffer.from(data, 'base64');
    // The first and the last bytes that a whole PNG has.
    same(bytes.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n');
    same(bytes.subarray(-8).toString('latin1'), 'IEND\xaeB`\x82');
  });
  await check('10 calls at once', () => Promise.all(Array.from({ length: 10 }, async (_, i) => {
    same(textOf(await client.call('get-sum', { a: i, b: 100 })), `The sum of ${i} and 100 is ${i + 100}.`);
  })));
  await check('read resources', async () => {
    assert.match((await client.read(TEXT_RESOURCE)).text, /^Resource 7: /);
    const { blob } = await client.read('demo://resource/dynamic/blob/8');
    assert.match(Buffer.from(blob, 'base64').toString(), /^Resource 8: /);
  });
}

/** What comes besides the response. */
async function streamChecks(check, client) {
  await check('progress', async () => {
    const steps = 5;
    await client.call('trigger-long-running-operation', { duration: 0.5, steps }, { onProgress: () => {} });
    for (let i = 1; i <= steps; i++) {
      const { progress, total } = await client.progress.next();
      assert.deepEqual({ progress, total }, { progress: i, total: steps });
    }
  });
  await check('resource updated', async () => {
    await client.subscribe(TEXT_RESOURCE);
    await client.call('toggle-subscriber-updates');
    same(await client.updates.next(), TEXT_RESOURCE);
    await client.call('toggle-subscriber-updates');
  });
}

/** What the server asks of a client, and what only a whole client knows. */
async function sdkChecks(check, client) {
  // The server registers these once it knows that the client can answer.
  await check('tools for what the client offers', async () => {
    const names = await client.tools();
    const wanted = ['get-roots-list', 'trigger-elicitation-request', 'trigger-sampling-request'];
    assert.deepEqual(wanted.filter(tool => !names.includes(tool)), [], 'missing tools');
  });
  await check('sampling', () => sampling(client));
  await check('elicitation', () => elicitation(client));
  await check('roots', () => roots(client));
  await check('completion', () => completion(client));
  await check('logging', () => logging(client));
}

/** Five requests of the server are open at once, and are answered last first. */
async function sampling(client) {
  const count = 5;
  const waiting = [];
  client.answers['sampling/createMessage'] = ({ messages, maxTokens }) => new Promise(resolve => {
    const [{ content }] = messages;
    const text = `${content.text} (${maxTokens})`;
    waiting.push(() => resolve({ model: 'interop', role: 'assistant', content: { type: 'text', text } }));
    if (waiting.length === count) waiting.reverse().forEach(answer => answer());
  });
  await Promise.all(Array.from({ length: count }, async (_, i) => {
    const args = { prompt: `${UNUSUAL} ${i}`, maxTokens: 50 + i };
    const text = textOf(await client.call('trigger-sampling-request', args));
    const { model, content } = JSON.parse(text.replace('LLM sampling result: ', ''));
    same(model, 'interop');
    same(content.text, `Resource trigger-sampling-request context: ${UNUSUAL} ${i} (${50 + i})`);
  }));
}

async function elicitation(client) {
  const rawResult = async () => {
    const result = await client.call('trigger-elicitation-request');
    textOf(result);
    return JSON.parse(result.content.at(-1).text.replace('Raw result: ', ''));
  };
  const accepted = { action: 'accept', content: { name: UNUSUAL, check: true, integer: 7 } };
  client.answers['elicitation/create'] = ({ requestedSchema }) => {
    assert.deepEqual(requestedSchema.required, ['name']);
    return accepted;
  };
  assert.deepEqual(await rawResult(), accepted);
  client.answers['elicitation/create'] = () => ({ action: 'decline' });
  assert.deepEqual(await rawResult(), { action: 'decline' });
}

async function roots(client) {
  // The first call asks for the roots, unless the server has asked already (it does so a moment after
  // `initialized`); from then on it keeps them until it is told of a change, and logs when it has the new ones.
  await client.call('get-roots-list');
  const roots = [{ uri: 'file:///interop/one', name: '一' }, { uri: 'file:///interop/two', name: 'two 😀' }];
  client.answers['roots/list'] = () => ({ roots });
  await client.sdk.sendRootsListChanged();
  await client.logs.find(({ data }) => String(data).startsWith('Roots updated: 2 '));
  const text = textOf(await client.call('get-roots-list'));
  for (const { uri, name } of roots) assert.ok(text.includes(`${name}\n   URI: ${uri}`), text);
}

async function completion(client) {
  const values = async params => (await client.sdk.complete(params)).completion.values;
  const ref = { type: 'ref/prompt', name: 'completable-prompt' };
  assert.deepEqual(await values({ ref, argument: { name: 'department', value: 'S' } }), ['Sales', 'Support']);
  const context = { arguments: { department: 'Engineering' } };
  assert.deepEqual(await values({ ref, argument: { name: 'name', value: 'B' }, context }), ['Bob']);
  const template = { type: 'ref/resource', uri: 'demo://resource/dynamic/text/{resourceId}' };
  assert.deepEqual(await values({ ref: template, argument: { name: 'resourceId', value: '7' } }), ['7']);
}

/** The server logs each subscription at `info`, so one made at a higher level must leave no message. */
async function logging(client) {
  await client.sdk.setLoggingLevel('emergency');
  await client.subscribe('demo://resource/dynamic/text/1');
  await client.sdk.setLoggingLevel('debug');
  await client.subscribe('demo://resource/dynamic/text/2');
  const { level, data } = await client.logs.find(({ data }) => /dynamic\/text\/[12]/.test(data));
  same(level, 'info');
  assert.match(data, /Received Subscribe Resource request for URI: demo:\/\/resource\/dynamic\/text\/2/);
  await client.call('toggle-simulated-logging');
  // Of a random level, all of which are at or above `debug`.
  await client.logs.find(({ data }) => /^\w+[- ]level[- ]message/.test(data));
  await client.call('toggle-simulated-logging');
}

/** The server works on, but a call that it knows to be cancelled gets no response. */
async function cancel(client) {
  const abort = new AbortController();
  const options = { signal: abort.signal, onProgress: () => abort.abort(new Error('cancelled by the check')) };
  const call = client.call('trigger-long-running-operation', { duration: 1, steps: 10 }, options);
  await assert.rejects(call, /cancelled by the check/);
  // Both SDKs and the page take the id of the request for its progress token.
  const { progressToken } = await client.progress.next();
  // As long as the whole of the other, and begun after it: its response comes when the other's would have come.
  await client.call('trigger-long-running-operation', { duration: 1, steps: 1 });
  assert.ok(!client.answered.has(progressToken), 'the cancelled call was answered');
}
