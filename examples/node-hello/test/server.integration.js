import assert from 'node:assert/strict';
import test from 'node:test';
import { server } from '../app.js';

test('answers over http', async () => {
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  try {
    const answer = await fetch(`http://127.0.0.1:${server.address().port}/?name=Ben`);
    assert.equal(answer.status, 200);
    assert.equal(await answer.text(), 'hello, Ben\n');
  } finally {
    server.close();
    server.closeAllConnections();
  }
});
