import { createServer } from 'node:http';

// What the server answers, apart from the server: so that it can be tested alone.
export function answer(path) {
  const url = new URL(path, 'http://here');
  if (url.pathname === '/healthz') return { status: 200, body: 'ok\n' };
  if (url.pathname === '/') return { status: 200, body: `hello, ${url.searchParams.get('name') || 'world'}\n` };
  return { status: 404, body: 'not found\n' };
}

export const server = createServer((request, response) => {
  const { status, body } = answer(request.url);
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(body);
});
