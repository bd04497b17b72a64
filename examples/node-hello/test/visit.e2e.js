import assert from 'node:assert/strict';
import test from 'node:test';

test('a visitor is greeted', async () => {
  const answer = await fetch(new URL('/', process.env.BELAY_URL));
  assert.equal(answer.status, 200);
  assert.match(await answer.text(), /hello/);
});
