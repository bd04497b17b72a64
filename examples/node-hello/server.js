import { server } from './app.js';

const port = Number(process.env.PORT || 8080);
server.listen(port, '127.0.0.1', () => console.log(`listens on 127.0.0.1:${port}`));
process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
