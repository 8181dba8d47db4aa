// The Console of the page: calls, what a server asks, the wire log, and that it needs neither a mouse nor a large screen.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { call, callButton, open, openConsole, outcome, pill, rows, told, tool, wire } from './gateway-page-lib.mjs';
import { TcpProxy } from './lib.mjs';

export async function consoleChecks(check, gateway) {
  await check('console: a call with a form', async () => {
    const page = await openConsole(gateway.page);
    assert.equal(new URL(page.url()).hash, '#console/');
    // The first tool is chosen already.
    await page.getByRole('textbox', { name: 'message' }).fill('grüße 漢字 😀\nline');
    assert.match(await call(page), /Echo: grüße 漢字 😀\nline/);
    await told(page, 'Done, after');
    await tool(page, 'get-sum').click();
    await page.getByRole('textbox', { name: 'a', exact: true }).fill('2');
    await callButton(page).click();
    await page.getByText('Fill this in.').waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-invalid')), 'true');
    await page.getByRole('textbox', { name: 'b', exact: true }).fill('40');
    assert.match(await call(page), /The sum of 2 and 40 is 42/);
    await page.fine();
  });
  await check('console: JSON and back', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'get-sum').click();
    await page.getByRole('textbox', { name: 'a', exact: true }).fill('5');
    await page.getByRole('button', { name: 'Write JSON' }).click();
    const json = page.getByRole('textbox', { name: 'Arguments as JSON' });
    await json.fill('{"a": 5, "b": ');
    await callButton(page).click();
    await page.getByText('This is not JSON').waitFor();
    await json.fill('{"a": 5, "b": 6, "c": "kept"}');
    await page.getByRole('button', { name: 'Back to the form' }).click();
    assert.equal(await page.getByRole('textbox', { name: 'b', exact: true }).inputValue(), '6');
    assert.match(await call(page), /is 11/);
    await rows(page).filter({ hasText: 'tools/call get-sum' }).first().getByRole('button').first().click();
    await page.locator('.wire-body', { hasText: '"c": "kept"' }).waitFor();
    await page.fine();
  });
  await check('console: progress', async () => {
    const page = await openConsole(gateway.page);
    await longTask(page, 3, 6);
    await page.getByRole('progressbar').and(page.locator('[max="6"]')).waitFor();
    await outcome(page).getByText('Long running operation completed').waitFor();
    await page.fine();
  });
  await check('console: cancel', async () => {
    const page = await openConsole(gateway.page);
    await longTask(page, 600, 1000);
    await outcome(page).getByText('1 of 1000').waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await outcome(page).getByText('The server was told to stop').waitFor();
    await rows(page).filter({ hasText: 'cancelled' }).first().waitFor();
    await told(page, 'Cancelled');
    await page.fine();
  });
  await check('console: image, structured content, resource links', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'get-tiny-image').click();
    await call(page);
    await page.getByRole('img', { name: /^Image, \d+ × \d+ pixels/ }).waitFor();
    const [download] = await Promise.all([page.waitForEvent('download'),
      outcome(page).getByRole('button', { name: 'Save' }).click()]);
    assert.equal(download.suggestedFilename(), 'result.png');
    assert.equal(readFileSync(await download.path()).subarray(1, 4).toString(), 'PNG');
    await tool(page, 'get-structured-content').click();
    await page.getByRole('combobox', { name: 'location' }).selectOption('Chicago');
    assert.match(await call(page), /Structured content[^]*"humidity": 82/);
    await tool(page, 'get-resource-links').click();
    await call(page);
    await outcome(page).getByRole('button', { name: 'Read' }).first().click();
    await page.getByRole('tab', { name: 'Resources', selected: true }).waitFor();
    await outcome(page).getByText('demo://').first().waitFor();
    await page.fine();
  });
  await check('console: resources and templates', async () => {
    const page = await openConsole(gateway.page);
    await page.getByRole('tab', { name: 'Resources' }).click();
    await page.getByRole('button', { name: 'Read', exact: true }).click();
    await outcome(page).getByText('text/', { exact: false }).first().waitFor();
    await page.getByRole('navigation', { name: 'resources' }).getByRole('button', { name: 'Dynamic Text Resource' }).click();
    await page.getByLabel('resourceId').fill('7');
    await page.getByRole('button', { name: 'Read', exact: true }).click();
    await outcome(page).getByText('Resource 7').waitFor();
    await page.getByRole('button', { name: 'Subscribe' }).click();
    await page.getByText('No update yet').waitFor();
    await page.getByRole('tab', { name: 'Tools' }).click();
    await tool(page, 'toggle-subscriber-updates').click();
    await callButton(page).click();
    await page.getByRole('tab', { name: 'Resources' }).click();
    await page.getByText(/\d+ updates?, last at/).waitFor();
    await page.getByRole('button', { name: 'Unsubscribe' }).click();
    await page.getByRole('button', { name: 'Subscribe', exact: true }).waitFor();
    await page.fine();
  });
  await check('console: prompts and completion', async () => {
    const page = await openConsole(gateway.page);
    await page.getByRole('tab', { name: 'Prompts' }).click();
    await page.getByRole('navigation', { name: 'prompts' }).getByRole('button', { name: 'args-prompt' }).click();
    await page.getByLabel('city').fill('東京');
    await page.getByRole('button', { name: 'Get the prompt' }).click();
    await outcome(page).getByText("What's weather in 東京?").waitFor();
    await page.getByRole('navigation', { name: 'prompts' }).getByRole('button', { name: 'completable-prompt' }).click();
    await page.getByLabel('department').fill('S');
    await page.locator('datalist option[value="Sales"]').waitFor({ state: 'attached' });
    await page.fine();
  });
  await check('console: log, level, ping, roots', async () => {
    const page = await openConsole(gateway.page);
    await page.getByRole('tab', { name: 'Log' }).click();
    await page.getByLabel('From level').selectOption('debug');
    await rows(page).filter({ hasText: 'logging/setLevel' }).nth(1).waitFor();
    await page.getByRole('tab', { name: 'Session' }).click();
    await page.getByRole('button', { name: 'Ping' }).click();
    await page.getByText(/^Ping [\d.]+ m?s$/).waitFor();
    await page.getByLabel('Roots, a line for each').fill('/interop/one\nfile:///interop/two');
    await page.getByRole('button', { name: 'Keep, and tell the server' }).click();
    await page.getByRole('tab', { name: 'Log' }).click();
    await page.getByText('Roots updated: 2').waitFor();
    await page.getByRole('tab', { name: 'Session' }).click();
    await page.getByLabel('Ask me each time').check();
    await page.getByRole('button', { name: 'Keep, and tell the server' }).click();
    const dialog = page.getByRole('dialog', { name: 'The server asks for your roots' });
    await dialog.getByLabel('Roots, a line for each').fill('/interop/three');
    await dialog.getByRole('button', { name: 'Send' }).click();
    await page.getByRole('tab', { name: 'Log' }).click();
    await page.getByText('Roots updated: 1').waitFor();
    await page.fine();
  });
  await check('console: sampling', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'trigger-sampling-request').click();
    await page.getByRole('textbox', { name: 'prompt' }).fill('What is it?');
    await callButton(page).click();
    const dialog = page.getByRole('dialog', { name: 'The server asks for a model’s answer' });
    await dialog.getByText('context: What is it?').waitFor();
    await dialog.getByLabel('Your answer').fill('It is a page.');
    await dialog.getByRole('button', { name: 'Send the answer' }).click();
    await outcome(page).getByText('It is a page.').waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.textContent.trim()), 'Call', 'the focus is not back');
    await callButton(page).click();
    await dialog.waitFor();
    await page.keyboard.press('Escape');
    await outcome(page).getByText('declined').waitFor();
    await page.fine();
  });
  await check('console: elicitation', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'trigger-elicitation-request').click();
    await callButton(page).click();
    const dialog = page.getByRole('dialog', { name: 'The server asks you something' });
    await dialog.getByRole('button', { name: 'Send', exact: true }).click();
    await dialog.getByText('Fill this in.').first().waitFor();
    await dialog.getByRole('textbox', { name: 'name' }).fill('Ada 漢字');
    await dialog.getByRole('textbox', { name: 'integer' }).fill('7');
    await dialog.getByRole('button', { name: 'Send', exact: true }).click();
    const text = await outcome(page).getByText('Raw result').innerText();
    const { action, content } = JSON.parse(text.slice(text.indexOf('{')));
    assert.equal(action, 'accept');
    assert.equal(content.name, 'Ada 漢字');
    assert.equal(content.integer, 7);
    for (const [button, raw] of [['Decline', 'decline'], ['Cancel', 'cancel']]) {
      await callButton(page).click();
      await dialog.getByRole('button', { name: button }).click();
      await outcome(page).getByText(`"action": "${raw}"`).waitFor();
    }
    await page.fine();
  });
  await check('console: the wire log', async () => {
    const page = await openConsole(gateway.page, { permissions: ['clipboard-read', 'clipboard-write'] });
    await page.getByRole('textbox', { name: 'message' }).fill('needle');
    await call(page);
    await wire(page).getByLabel('Filter messages by text').fill('NEEDLE');
    await wire(page).getByText(/^2 of \d+ messages$/).waitFor();
    await wire(page).getByLabel('Direction').selectOption('received');
    await wire(page).getByText(/^1 of \d+ messages$/).waitFor();
    await wire(page).getByLabel('Direction').selectOption('both ways');
    await wire(page).getByRole('button', { name: 'Copy all' }).click();
    await told(page, 'Copied');
    const copied = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
    assert.deepEqual(copied.map(({ direction }) => direction), ['sent', 'received']);
    assert.equal(copied[0].message.params.arguments.message, 'needle');
    await rows(page).first().getByRole('button').first().click();
    await rows(page).first().locator('.wire-body').getByRole('button', { name: 'Copy' }).click();
    await page.waitForFunction(async () => JSON.parse(await navigator.clipboard.readText()).result?.content);
    await page.fine();
  });
  await check('console: disconnect ends the session, connecting again opens one', async () => {
    const page = await openConsole(gateway.page);
    await page.getByRole('button', { name: 'Disconnect' }).click();
    await pill(page, 'disconnected').waitFor();
    await page.getByRole('button', { name: 'Connect again' }).click();
    await pill(page, 'connected').waitFor();
    await page.getByRole('textbox', { name: 'message' }).fill('again');
    assert.match(await call(page), /Echo: again/);
    await page.fine();
  });
  await check('console: a stream that breaks is resumed', async () => {
    const proxy = await TcpProxy.start(gateway.page);
    const page = await openConsole(proxy.url, { allowed: [/ERR_/] });
    await page.getByRole('textbox', { name: 'message' }).fill('before');
    await call(page);
    proxy.cut();
    await page.getByRole('tab', { name: 'Session' }).click();
    await page.getByText('The stream goes on.').waitFor();
    await page.getByRole('tab', { name: 'Tools' }).click();
    await page.getByRole('textbox', { name: 'message' }).fill('after');
    await callButton(page).click();
    await outcome(page).getByText('Echo: after').waitFor();
    assert.equal(await rows(page).filter({ hasText: /sent initialize #/ }).count(), 1, 'it is another session');
    await page.fine();
  });
  await check('console: what is chosen and written stays when connecting again', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'get-sum').click();
    await page.getByRole('textbox', { name: 'a', exact: true }).fill('77');
    await page.getByRole('button', { name: 'Disconnect' }).click();
    await page.getByRole('button', { name: 'Connect again' }).click();
    await pill(page, 'connected').waitFor();
    await page.getByRole('textbox', { name: 'b', exact: true }).fill('1');
    assert.match(await call(page), /77 and 1 is 78/);
    await page.fine();
  });
  await check('without a mouse', () => keyboardWalk(gateway));
  await check('360 pixels wide', async () => {
    const page = await open(gateway.page, { viewport: { width: 360, height: 740 } });
    const fits = async where => assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, where);
    await page.getByRole('button', { name: 'Try it in the console' }).waitFor();
    for (const button of await page.locator('.client').all()) {
      await button.click();
      await fits(await button.innerText());
    }
    await page.getByRole('button', { name: 'Try it in the console' }).click();
    await page.getByRole('textbox', { name: 'message' }).fill('long '.repeat(200) + 'x'.repeat(500));
    await call(page);
    await fits('console');
    for (const tab of ['Resources', 'Prompts', 'Log', 'Session']) {
      await page.getByRole('tab', { name: tab }).click();
      await fits(tab);
    }
    await page.fine();
  });
}

async function longTask(page, duration, steps) {
  await tool(page, 'trigger-long-running-operation').click();
  await page.getByRole('textbox', { name: 'duration' }).fill(String(duration));
  await page.getByRole('textbox', { name: 'steps' }).fill(String(steps));
  await callButton(page).click();
}

/** To the Console and through a call with keys alone. */
async function keyboardWalk(gateway) {
  const page = await open(gateway.page);
  await page.getByRole('button', { name: 'Try it in the console' }).waitFor();
  const press = (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
  const focused = () => page.evaluate(() => {
    const { activeElement: element } = document;
    return `${element.localName} ${element.getAttribute('role') ?? ''} ${element.getAttribute('aria-label')
      ?? element.labels?.[0]?.innerText ?? element.innerText}`.replace(/\s+/g, ' ').trim();
  });
  const tabTo = async pattern => {
    const passed = [];
    for (let i = 0; i < 80; i++) {
      await press('Tab');
      const now = await focused();
      passed.push(now);
      if (pattern.test(now)) return now;
    }
    throw new Error(`${pattern} is not reached: ${passed.join(' | ')}`);
  };
  await press('Tab');
  assert.match(await focused(), /Skip to the content/);
  await press('Enter');
  assert.match(await focused(), /^main/);
  await page.keyboard.press('Shift+Tab');
  assert.match(await focused(), /^button tab Connect/);
  await press('ArrowRight');
  assert.match(await focused(), /^button tab Console/);
  await page.getByRole('tab', { name: 'Console', selected: true }).waitFor();
  await tabTo(/^button Connect$/);
  await press('Enter');
  await page.locator('.item').first().waitFor();
  await tabTo(/^button tab Tools/);
  await press('End');
  assert.match(await focused(), /^button tab Session/);
  await press('Home');
  await tabTo(/^button echo/);
  await press('ArrowDown', 'ArrowUp', 'Enter');
  await tabTo(/^textarea message/);
  await page.keyboard.type('by keyboard');
  await tabTo(/^button Call/);
  await press('Enter');
  await outcome(page).getByText('Echo: by keyboard').waitFor();
  assert.match(await focused(), /^button Call/);
  // What has the focus can be seen.
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
  await page.fine();
}
