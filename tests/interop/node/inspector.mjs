// The MCP Inspector's command line, as inspector-cli.mjs starts it.

import assert from 'node:assert/strict';
import { inspect, inspectorName } from './inspector-cli.mjs';
import { ECHOES, STATS, TOOLS, checkHeaders, run, same } from './lib.mjs';

run(inspectorName, async (check, url) => {
  const result = async (...args) => JSON.parse(await inspect(url, 'sse', ...args)).result;
  const call = async (tool, args) =>
    (await result('tools/call', '--tool-name', tool, '--tool-args-json', JSON.stringify(args))).content[0].text;

  if (!await check('initialize', async () => assert.ok((await result('initialize')).serverInfo.name))) return;
  await check('list tools', async () => {
    const names = (await result('tools/list')).tools.map(tool => tool.name);
    assert.deepEqual(TOOLS.filter(name => !names.includes(name)), [], 'missing tools');
  });
  await check('echo with --tool-arg', async () => {
    const { content } = await result('tools/call', '--tool-name', 'echo', '--tool-arg', 'message=hi');
    same(content[0].text, 'hi');
  });
  for (const [name, message] of Object.entries(ECHOES)) {
    await check(`echo ${name}`, async () => same(await call('echo', { message }), message));
  }
  await check('20 calls at once', async () => {
    const load = await result('tools/call', '--tool-name', 'echo', '--tool-arg', 'message=hi',
      '--load', '--load-requests', '20', '--load-concurrency', '20');
    same(load.ok, 20);
  });
  await check('add', async () => same(await call('add', { a: 1, b: 2 }), '3'));
  await check('long task', async () => same(await call('long_task', { steps: 3, step_ms: 10 }), 'done 3 steps'));
  await check('read resource', async () => {
    const { contents } = await result('resources/read', '--uri', STATS);
    assert.deepEqual(Object.keys(JSON.parse(contents[0].text)).sort(), ['calls', 'cancelled', 'running']);
  });
  await check('list resources', async () => {
    assert.ok((await result('resources/list')).resources.some(resource => resource.uri === STATS));
  });
  await check('list prompts', async () => {
    assert.ok((await result('prompts/list')).prompts.some(prompt => prompt.name === 'greeting'));
  });
  await check('prompt', async () => {
    const { messages } = await result('prompts/get', '--prompt-name', 'greeting', '--prompt-args', 'name=Ada');
    same(messages[0].content.text, 'Hello, Ada!');
  });
  await check('request headers', async () => { checkHeaders(await call('request_headers', {})); });
});
