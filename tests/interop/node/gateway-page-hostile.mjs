// The Console with servers that mean no good, that flood, die, or are not there.

import assert from 'node:assert/strict';
import {
  Gateway, HOSTILE, STATUS, call, callButton, everything, open, openConsole, outcome, pill, rows, tool, wire,
} from './gateway-page-lib.mjs';
import { BIDI, IMG } from './gateway-page-server.mjs';

export async function hostileChecks(check) {
  const gateway = await Gateway.start(['--', ...HOSTILE]);
  await check('hostile: markup and odd characters are text', async () => {
    const page = await openConsole(gateway.page);
    await page.getByText(IMG).first().waitFor();
    await tool(page, IMG).click();
    assert.equal(await page.getByRole('textbox', { name: IMG }).inputValue(), IMG);
    assert.ok((await call(page)).includes(JSON.stringify({ [IMG]: IMG })));
    // Each hidden character is there with its code, and none as itself.
    const name = await page.locator('.item', { hasText: 'txt.exe' }).innerText();
    assert.equal(name.replace(/\s+/g, ' '), 'safe202Etxt.exe2066200B');
    await page.locator('.item', { hasText: 'txt.exe' }).click();
    assert.match(await call(page), /202Ereversed202C 0007bell/);
    assert.equal(await page.evaluate(bidi => document.body.innerText.includes(bidi), BIDI), false);
    assert.equal(await page.locator('#app img:not([alt=""]), #app script, #app iframe, #app b').count(), 0);
    await page.fine();
  });
  await check('hostile: results are text, images are bounded, links are not followed', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'html').click();
    await call(page);
    await outcome(page).getByText('pixels, too large').waitFor();
    await outcome(page).getByText('It is no PNG').waitFor();
    const text = await outcome(page).innerText();
    for (const shown of ['<b>bold</b>', 'It is no PNG, JPEG, GIF or WebP image', '100000 × 100000 pixels, too large',
      'not base64', 'javascript:alert(1)', '"surprise": true', '__proto__']) {
      assert.ok(text.includes(shown), `${shown} is not in ${text.slice(0, 3000)}`);
    }
    assert.deepEqual(await page.locator('#app a').evaluateAll(links => links.map(link => link.href)), []);
    assert.equal(await page.evaluate(() => ({}).polluted), undefined);
    await tool(page, 'nested_result').click();
    assert.match(await call(page), /This is cut/);
    await tool(page, 'odd').click();
    await call(page);
    await page.getByRole('tab', { name: 'Prompts' }).click();
    await page.getByRole('button', { name: 'Get the prompt' }).click();
    await outcome(page).getByText('nonsense').waitFor();
    await page.getByRole('tab', { name: 'Resources' }).click();
    await page.getByRole('button', { name: 'Read', exact: true }).click();
    await outcome(page).getByText(IMG, { exact: true }).waitFor();
    await page.getByRole('tab', { name: 'Session' }).click();
    await page.getByText(IMG).first().waitFor();
    await page.fine();
  });
  await check('hostile: schemas that recurse, nest or are wide', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'recursive').click();
    await page.getByText('This refers to itself. It is written as JSON.').first().waitFor();
    await page.getByRole('textbox', { name: 'name' }).first().fill('root');
    assert.match(await call(page), /{"tree":{"name":"root"}}/);
    await tool(page, 'deep').click();
    await page.getByText('This is nested too deeply for a form.').waitFor();
    await page.getByRole('button', { name: 'Write JSON' }).click();
    await page.getByRole('textbox', { name: 'Arguments as JSON' }).fill(`${'{"level1":'.repeat(900)}"x"${'}'.repeat(900)}`);
    assert.match(await call(page), /level1/);
    await tool(page, 'wide').click();
    await page.getByText(/4,\d+ more properties are not shown/).waitFor();
    await tool(page, 'pattern').click();
    // A pattern that takes for ever is not tried.
    for (const name of ['slow', 'maybes', 'choices']) {
      await page.getByRole('textbox', { name }).fill(`${'a'.repeat(60)}!`);
    }
    await page.getByRole('textbox', { name: 'simple' }).fill('A');
    await callButton(page).click();
    await page.getByText('This does not match').waitFor();
    await page.getByRole('textbox', { name: 'simple' }).fill('a');
    assert.match(await call(page), /aaa!/);
    await page.fine();
  });
  await check('hostile: small schemas that become large', async () => {
    // The first tool is there at once.
    const first = await Gateway.start(['--', ...HOSTILE, '--only', 'fan-out']);
    const page = await openConsole(first.page);
    await page.getByText('This is too much for a form. It is written as JSON.').waitFor();
    assert.match(await call(page), /fanned/);
    await page.fine();
    await first.stop();
    const filled = await Gateway.start(['--', ...HOSTILE, '--only', 'deep-default']);
    const other = await openConsole(filled.page);
    assert.ok(await other.locator('form.arguments').locator('input, textarea, select').count() < 600);
    await other.getByRole('textbox', { name: 'types' }).fill('a');
    assert.match(await call(other), /{"types":"a"}/);
    await other.fine();
    await filled.stop();
  });
  await check('hostile: what has no text, and logs of megabytes', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'log-odd').click();
    assert.match(await call(page), /"toString":1/);
    const [download] = await Promise.all([page.waitForEvent('download'),
      outcome(page).getByRole('button', { name: 'Save' }).click()]);
    assert.equal(download.suggestedFilename(), 'result.bin');
    await tool(page, 'log-large').click();
    assert.match(await call(page), /logged/);
    await page.getByRole('tab', { name: 'Log' }).click();
    await page.getByText('{"toString":1}').first().waitFor();
    await page.getByText('500 of 20,001 characters are shown').first().waitFor();
    await pill(page, 'connected').waitFor();
    await page.fine();
  });
  await check('a form of every kind', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'form').click();
    await page.getByRole('textbox', { name: 'text', exact: true }).first().fill('x');
    await page.getByRole('textbox', { name: 'whole', exact: true }).fill('9');
    await callButton(page).click();
    for (const wrong of ['At least 2 characters.', 'At most 5.']) await page.getByText(wrong, { exact: true }).waitFor();
    await page.getByRole('textbox', { name: 'text', exact: true }).first().fill('xyz');
    await page.getByRole('textbox', { name: 'whole', exact: true }).fill('3');
    await page.getByRole('checkbox', { name: 'yes' }).uncheck();
    await page.getByLabel('colour').selectOption('green');
    const tags = page.getByRole('group', { name: 'tags' });
    await tags.getByRole('textbox').fill('one');
    await tags.getByRole('button', { name: 'Add another' }).click();
    await tags.getByRole('textbox').nth(1).fill('two');
    await tags.getByRole('button', { name: 'Add another' }).click();
    await tags.getByRole('button', { name: 'Remove tags 3' }).click();
    await page.getByRole('group', { name: 'place' }).getByRole('textbox', { name: 'city' }).fill('Oslo');
    const either = page.getByRole('group', { name: 'either' });
    await either.getByRole('combobox').selectOption('whole number');
    await either.getByRole('textbox').fill('12');
    await page.getByRole('textbox', { name: 'anything' }).fill('[1, null]');
    const text = await call(page);
    const value = JSON.parse(/{.*}/.exec(text)[0]);
    assert.deepEqual(value, {
      text: 'xyz', whole: 3, maybe: null, yes: false, colour: 'green', fixed: 'v1', place: { city: 'Oslo' },
        tags: ['one', 'two'], either: 12, anything: [1, null],
    });
    await page.fine();
  });
  await check('hostile: a flood leaves the page usable', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'flood').click();
    await page.getByRole('textbox', { name: 'count' }).fill('20000');
    await callButton(page).click();
    await wire(page).getByText(/older messages? dropped/).waitFor();
    // It can be used meanwhile, and its answer to a click comes within a second.
    const begun = Date.now();
    await tool(page, 'grow').click();
    await page.getByRole('heading', { name: 'grow', exact: true }).waitFor();
    assert.ok(Date.now() - begun < 3000, `${Date.now() - begun} ms for a click`);
    await tool(page, 'flood').click();
    await outcome(page).getByText('flooded').waitFor({ timeout: 50_000 });
    assert.ok(await rows(page).count() <= 500);
    await page.getByRole('tab', { name: 'Log' }).click();
    await page.getByText('flood 20000', { exact: true }).waitFor();
    await page.fine();
  });
  await check('hostile: megabytes', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'megabyte').click();
    await page.getByText(/1,200 of 1,048,576 characters are shown/).waitFor();
    await call(page);
    await outcome(page).getByText('20,000 of 3,145,728 characters are shown').waitFor();
    await outcome(page).getByRole('button', { name: 'Show more' }).click();
    await outcome(page).getByText('200,000 of 3,145,728 characters are shown').waitFor();
    await page.fine();
  });
  await check('hostile: questions wait in a bounded queue', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'questions').click();
    await callButton(page).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('19 more questions wait.').waitFor();
    await dialog.getByText('question 0 ').waitFor();
    for (let i = 0; i < 20; i++) {
      await dialog.getByText(`question ${i} `).waitFor();
      await dialog.getByRole('button', { name: 'Decline' }).click();
    }
    await outcome(page).getByText('refused 30').waitFor();
    await page.fine();
  });
  await check('hostile: addresses to open', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'bad-url').click();
    await callButton(page).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('This is no address of the web').waitFor();
    assert.equal(await dialog.getByRole('link').count(), 0);
    await dialog.getByRole('button', { name: 'Decline' }).click();
    await outcome(page).getByText('{"action":"decline"}').waitFor();
    await tool(page, 'good-url').click();
    await callButton(page).click();
    const link = dialog.getByRole('link');
    assert.equal(await link.getAttribute('href'), 'https://example.com/login?a=1');
    assert.equal(await link.getAttribute('rel'), 'noopener noreferrer');
    await dialog.getByRole('button', { name: 'I agree' }).click();
    await outcome(page).getByText('{"action":"accept"}').waitFor();
    await page.fine();
  });
  await check('a list that changes is read again', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'grow').click();
    await call(page);
    await tool(page, 'grown').click();
    assert.match(await call(page), /new/);
    await page.fine();
  });
  await check('a server that dies, and another one in its place', async () => {
    const page = await openConsole(gateway.page);
    await tool(page, 'die').click();
    await callButton(page).click();
    await outcome(page).getByText(/exit|status|3/).first().waitFor();
    await pill(page, 'connected').waitFor();
    await page.fine();
  });
  await gateway.stop();
  await check('a server that dies for good', async () => {
    const mortal = await Gateway.start(['--restart', 'never', '--', ...HOSTILE]);
    const page = await openConsole(mortal.page, { allowed: [STATUS(404)] });
    await tool(page, 'die').click();
    await callButton(page).click();
    await pill(page, 'not connected').waitFor();
    await outcome(page).getByText(/exit|status|3/).first().waitFor();
    await page.getByText('The session is over').first().waitFor();
    await page.getByRole('button', { name: 'Connect with a new session' }).click();
    await pill(page, 'connected').waitFor();
    await page.fine();
    await mortal.stop();
  });
  await check('hostile: 10,000 tools', async () => {
    const many = await Gateway.start(['--', ...HOSTILE, '--many']);
    const page = await openConsole(many.page);
    await page.getByText('Only the first 5,000 are shown.').waitFor();
    assert.ok(await page.locator('.item').count() <= 210);
    await page.getByLabel('Filter tools').fill('tool-04321');
    await tool(page, 'tool-04321').click();
    await page.getByRole('heading', { name: 'tool-04321' }).waitFor();
    await page.fine();
    await many.stop();
  });
  await check('a server that cannot be started', async () => {
    const none = await Gateway.start(['--', 'sh', '-c', 'echo it is not installed >&2; exit 3']);
    const page = await open(none.page, { allowed: [STATUS(404)] });
    await page.getByRole('button', { name: 'Try it in the console' }).click();
    await page.getByRole('alert').getByText('Connecting did not work').waitFor();
    await page.getByRole('alert').getByText('it is not installed').waitFor();
    await page.getByRole('button', { name: 'Try again' }).waitFor();
    await page.fine();
    await none.stop();
  });
  await check('a gateway that is gone', async () => {
    const gone = await Gateway.start(['--', ...everything()]);
    const page = await openConsole(gone.page, { allowed: [STATUS(404), /ERR_/] });
    await gone.stop();
    await pill(page, 'not connected').waitFor();
    // By then its port may still be answered, or not.
    await page.getByRole('alert').getByText(/The session is over|The gateway cannot be reached/).waitFor();
    await page.fine();
  });
}
